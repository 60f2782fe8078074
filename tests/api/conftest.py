"""Servers with an `Auth`."""

from collections.abc import AsyncIterator

import pytest
from langgraph_sdk.client import LangGraphClient

from durathread.embedded.engines import Engines
from tests.api.auth import SCRIPTED, client_of, headers_of
from tests.conftest import environment_of
from tests.stack import Stack, running


@pytest.fixture(scope="session")
async def scripted(
    engine_set: Engines, database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    """A server whose handlers do what the token says."""
    assert database
    environment = {
        **environment_of(engine_set, queue="scripted", config=SCRIPTED),
        # Tests of tokens that end wait for it.
        "DURATHREAD_AUTH_RECHECK": "1",
    }
    async with running(environment, tmp_path_factory.mktemp("scripted")) as stack:
        yield stack


@pytest.fixture
async def alice(owners: Stack) -> AsyncIterator[LangGraphClient]:
    """A user."""
    async with client_of(owners, headers_of("alice")) as found:
        yield found


@pytest.fixture
async def bob(owners: Stack) -> AsyncIterator[LangGraphClient]:
    """Another user."""
    async with client_of(owners, headers_of("bob")) as found:
        yield found
