"""What these tests share: plain engines."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from tests.roles.plain import PlainEngines, plain_engines
from tests.roles.roles import Roles
from tests.stack import GRAPHS

# Few graphs: roles start sooner.
FEW = GRAPHS.with_name("agent.json")


@pytest.fixture(scope="session")
async def plain(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PlainEngines]:
    """Engines that durathread has not set up."""
    async with plain_engines(tmp_path_factory.mktemp("plain")) as started:
        yield started


@pytest.fixture
async def roles(plain: PlainEngines, tmp_path: Path) -> AsyncIterator[Roles]:
    """Roles on an empty database of the plain engines."""
    found = Roles({**plain.environment, "DURATHREAD_CONFIG": str(FEW), "DATABASE_URL": new_database(plain)}, tmp_path)
    yield found
    await found.close()


def new_database(plain: PlainEngines) -> str:
    """Make an empty database, and say where it is."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(plain.database_url("postgres"), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}")  # pyright: ignore[reportArgumentType, reportCallIssue]
    return plain.database_url(name)
