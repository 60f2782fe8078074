"""What these tests share: a project that is served, one after the other."""

from collections.abc import AsyncIterator

import pytest

from durathread.embedded.engines import Engines
from tests.shapes.serving import Served, served


@pytest.fixture(scope="module")
async def server(
    request: pytest.FixtureRequest, engine_set: Engines, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Served]:
    """A project, served as its user would."""
    async with served(request.param, engine_set, tmp_path_factory.mktemp(request.param.name)) as found:
        yield found


# Failed assertions of what is shared are explained as those of tests are.
pytest.register_assert_rewrite(*(f"tests.shapes.{name}" for name in ("promises", "agents", "others")))
