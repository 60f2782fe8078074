"""The API inside of a worker: anybody's worker with the plugin, on anybody's Temporal."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.errors import InternalServerError
from temporalio.client import Client
from temporalio.worker import Worker

from durathread.config.settings import Settings
from durathread.db.migrate import upgrade
from durathread.embedded.engines import Engines
from durathread.graphs.registry import Graphs
from durathread.plugin import DurathreadPlugin
from durathread.startup.loopback import serving_inside

SOURCE = """
from typing import Any, TypedDict

from langgraph.graph import START, StateGraph
from langgraph_sdk import get_client


class State(TypedDict, total=False):
    found: Any


async def ask(state: State) -> State:
    async with get_client() as client:
        return {"found": await client.runs.wait(None, "answers", input={})}


asks = StateGraph(State).add_node("ask", ask).add_edge(START, "ask")
answers = StateGraph(State).add_node("answer", lambda state: {"found": 42}).add_edge(START, "answer")
"""


def test_a_worker_imports_no_api_before_a_client_asks() -> None:
    """What takes up the work of a killed worker is a process that imports first."""
    code = (
        "import sys, durathread.worker; print([m for m in sys.modules if m.startswith(('fastapi', 'durathread.api'))])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A project whose graph asks another."""
    name = f"asking_{uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    path = tmp_path / "langgraph.json"
    path.write_text(json.dumps({"graphs": {graph: f"./{name}.py:{graph}" for graph in ("asks", "answers")}}))
    return path


@pytest.fixture
async def workers(engine_set: Engines, database: str, config: Path) -> AsyncIterator[list[Worker]]:
    """Two workers in this process, whose Temporal and task queues are not those that the settings name."""
    settings = Settings(database_url=database, redis_url=engine_set.redis_url, config=config, task_queue="nobody's")
    plugin = DurathreadPlugin(settings)
    client = await Client.connect(engine_set.temporal_address, plugins=[plugin])
    async with Worker(client, task_queue=f"own-{uuid4().hex}") as first:
        await plugin.ready()
        async with Worker(client, task_queue=f"own-{uuid4().hex}") as second:
            yield [first, second]
        # The first serves again, when the second has gone.
        async with get_client() as inside:
            assert await inside.assistants.count() >= 2


async def test_clients_in_a_worker_go_where_it_goes(workers: list[Worker]) -> None:
    assert workers
    async with get_client() as inside:
        values: Any = await inside.runs.wait(None, "asks", input={})
    assert values == {"found": {"found": 42}}


async def test_an_api_that_cannot_open_says_so_and_is_tried_again(engine_set: Engines, config: Path) -> None:
    name = f"later_{uuid4().hex}"
    url = engine_set.database_url.replace("/durathread?", f"/{name}?")
    settings = Settings(database_url=url, redis_url=engine_set.redis_url, config=config)
    client = await Client.connect(engine_set.temporal_address, plugins=[DurathreadPlugin(settings)])
    worker = Worker(client, task_queue=f"own-{uuid4().hex}")
    graphs = Graphs.load(config)
    async with serving_inside(settings, graphs, worker), get_client() as inside:
        with pytest.raises(InternalServerError, match="Service Unavailable"):
            await inside.assistants.count()
        with psycopg.connect(engine_set.database_url, autocommit=True) as conn:
            conn.execute(f"CREATE DATABASE {name}")  # pyright: ignore[reportArgumentType, reportCallIssue]
        upgrade(url)
        assert await inside.assistants.count() == 2
