FROM python:3.13-slim AS build
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
# The links in src/ point at the four entries beside it: all five, or the wheel is a shell.
COPY workflows/ workflows/
COPY activities/ activities/
COPY api/ api/
COPY worker.py ./
COPY src/ src/
RUN python -m venv /opt/durathread && /opt/durathread/bin/pip install --no-cache-dir .

FROM python:3.13-slim
RUN useradd --create-home durathread
COPY --from=build /opt/durathread /opt/durathread
ENV PATH=/opt/durathread/bin:$PATH PYTHONUNBUFFERED=1
USER durathread
# Outside of any checkout, so that no file of it is importable.
WORKDIR /home/durathread
EXPOSE 8123
CMD ["durathread", "api"]
