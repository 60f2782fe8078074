FROM python:3.13-slim AS build
WORKDIR /build
COPY pyproject.toml requirements.lock README.md LICENSE ./
# The links in src/ point at the four entries beside it: all five, or the wheel is a shell.
COPY workflows/ workflows/
COPY activities/ activities/
COPY api/ api/
COPY worker.py ./
COPY src/ src/
ENV PIP_NO_CACHE_DIR=1 PIP_CONSTRAINT=/build/requirements.lock
# The lock names the tests' packages too; as constraints it gives the versions of those that are needed.
RUN python -m venv /opt/durathread \
    && /opt/durathread/bin/pip install setuptools \
    && /opt/durathread/bin/pip install --no-build-isolation .[encryption]

FROM python:3.13-slim
RUN useradd --create-home durathread
COPY --from=build /opt/durathread /opt/durathread
ENV PATH=/opt/durathread/bin:$PATH PYTHONUNBUFFERED=1
USER durathread
# Outside of any checkout, so that no file of it is importable.
WORKDIR /home/durathread
EXPOSE 8123
CMD ["durathread", "api"]
