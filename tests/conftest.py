"""What tests share: the engines, a server on them, and clients of it."""

import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from temporalio.client import Client
from temporalio.worker import Replayer

from durathread.config.settings import Settings
from durathread.db.migrate import upgrade
from durathread.db.pool import Pool, open_pool
from durathread.embedded.engines import Engines
from durathread.plugin import DurathreadPlugin
from tests.api.auth import OWNERS
from tests.engines import engines
from tests.stack import GRAPHS, Stack, running

EXAMPLES = Path(__file__).parent.parent / "examples"

# How many workflows are replayed when the session's server ends.
REPLAYED = 200
# In minutes: tests of lifetimes sweep themselves.
SELDOM = {"sweep_interval_minutes": 100_000}
# Short, so that crash tests are.
FAST = {"DURATHREAD_CANCEL_GRACE": "1", "BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS": "1"}


@pytest.fixture(scope="session")
async def engine_set(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engines]:
    """Postgres, Valkey and Temporal on free ports, for the whole session."""
    async with engines(tmp_path_factory.mktemp("engines")) as started:
        yield started


def environment_of(engine_set: Engines, *, queue: str, config: Path = GRAPHS) -> dict[str, str]:
    """Say where the engines are, as the roles read it."""
    return {
        "DATABASE_URL": engine_set.database_url,
        "REDIS_URL": engine_set.redis_url,
        "TEMPORAL_ADDRESS": engine_set.temporal_address,
        "TEMPORAL_NAMESPACE": "default",
        "DURATHREAD_CONFIG": str(config),
        "DURATHREAD_TASK_QUEUE": queue,
        "LANGGRAPH_THREAD_TTL": json.dumps(SELDOM),
        **FAST,
    }


@pytest.fixture(scope="session")
def database(engine_set: Engines) -> str:
    """Migrate the database, and name it."""
    upgrade(engine_set.database_url)
    return engine_set.database_url


@pytest.fixture(scope="session")
async def pool(database: str) -> AsyncIterator[Pool]:
    """A pool on the session's database."""
    async with open_pool(database, size=8) as opened:
        yield opened


@pytest.fixture(scope="session")
def environment(engine_set: Engines, database: str) -> dict[str, str]:
    """The environment of the session's server."""
    assert database
    return environment_of(engine_set, queue="tests")


@pytest.fixture(scope="session")
async def server(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A server with the graphs of tests/served."""
    async with running(environment, tmp_path_factory.mktemp("server")) as stack:
        yield stack
    assert await replay_failures(environment) == {}, "workflows of this session do not replay"


async def replay_failures(environment: dict[str, str]) -> Mapping[str, Exception]:
    """Replay the newest workflows that a server has left, and return those that fail by the id of their run."""
    client = await Client.connect(environment["TEMPORAL_ADDRESS"])
    replayer = Replayer(workflows=[], plugins=[DurathreadPlugin(Settings(config=GRAPHS))])
    query = (
        f"WorkflowType IN ('Thread', 'Run', 'Sweep', 'Cron') AND TaskQueue = '{environment['DURATHREAD_TASK_QUEUE']}'"
    )
    histories = client.list_workflows(query, limit=REPLAYED).map_histories()
    return (await replayer.replay_workflows(histories, raise_on_replay_failure=False)).replay_failures


@pytest.fixture(scope="session")
async def weather(engine_set: Engines, database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A server with the example agent."""
    assert database
    config = EXAMPLES / "weather" / "langgraph.json"
    environment = environment_of(engine_set, queue="weather", config=config)
    async with running(environment, tmp_path_factory.mktemp("weather")) as stack:
        yield stack


@pytest.fixture(scope="session")
async def owners(engine_set: Engines, database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A server whose users see what is theirs."""
    assert database
    environment = environment_of(engine_set, queue="owners", config=OWNERS)
    async with running(environment, tmp_path_factory.mktemp("owners")) as stack:
        yield stack


@pytest.fixture
async def client(server: Stack) -> AsyncIterator[LangGraphClient]:
    """The SDK's client of the server."""
    async with get_client(url=server.url) as found:
        yield found


@pytest.fixture
def thread_id() -> str:
    """An id that no thread has."""
    return str(uuid4())


@pytest.fixture(scope="session")
async def temporal(engine_set: Engines) -> Client:
    """A plain Temporal client with the plugin."""
    settings = Settings(database_url=engine_set.database_url, redis_url=engine_set.redis_url, config=GRAPHS)
    return await Client.connect(engine_set.temporal_address, plugins=[DurathreadPlugin(settings)])


@asynccontextmanager
async def own_database(engine_set: Engines) -> AsyncGenerator[str]:
    """Lend an empty database beside the session's."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(engine_set.database_url, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}")  # pyright: ignore[reportArgumentType, reportCallIssue]
    head, _, tail = engine_set.database_url.rpartition("/")
    _, mark, options = tail.partition("?")
    yield f"{head}/{name}{mark}{options}"


# Failed assertions of the scenarios are explained as those of tests are.
pytest.register_assert_rewrite(
    *(f"tests.contract.of_{name}" for name in ("assistants", "crons", "threads", "runs", "store"))
)
os.environ.setdefault("LANGSMITH_TRACING", "false")
