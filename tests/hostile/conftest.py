"""A server whose `Auth` is that of the README, word for word, and two of its users."""

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient

from durathread.embedded.engines import Engines
from tests.api.auth import client_of
from tests.conftest import environment_of
from tests.stack import GRAPHS, Stack, running

README = Path(__file__).parents[2] / "README.md"
PREAMBLE = """
from langgraph_sdk import Auth

TOKENS = {"Bearer alice": "NAME-alice", "Bearer bob": "NAME-bob"}
"""


def example() -> str:
    """Return the example of the README's section about auth."""
    section = README.read_text().partition("\n## Auth\n")[2]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found
    return found[1]


def headers_of(name: str) -> dict[str, str]:
    """Return what a user sends."""
    return {"authorization": f"Bearer {name}"}


@asynccontextmanager
async def guarded(engine_set: Engines, folder: Path, name: str, **config: Any) -> AsyncGenerator[Stack]:
    """Run a server with that `Auth`; the name makes its identities others than those of servers on the same database."""
    (folder / "auth.py").write_text(PREAMBLE.replace("NAME", name) + example())
    named = {
        "graphs": {"agent": f"{GRAPHS.parent / 'agent.py'}:graph"},
        "auth": {"path": "./auth.py:auth"},
        "dependencies": [str(GRAPHS.parent)],
    }
    (folder / "langgraph.json").write_text(json.dumps(named | config))
    environment = environment_of(engine_set, queue=name, config=folder / "langgraph.json")
    async with running(environment, folder / "logs") as stack:
        yield stack


@pytest.fixture(scope="session")
async def readme(engine_set: Engines, database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """The server."""
    assert database
    async with guarded(engine_set, tmp_path_factory.mktemp("readme"), "readme") as stack:
        yield stack


@pytest.fixture
async def alice(readme: Stack) -> AsyncIterator[LangGraphClient]:
    """A user."""
    async with client_of(readme, headers_of("alice")) as found:
        yield found


@pytest.fixture
async def bob(readme: Stack) -> AsyncIterator[LangGraphClient]:
    """Another user."""
    async with client_of(readme, headers_of("bob")) as found:
        yield found
