"""The plugin beside other people's workflows, on their clients and workers."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, PayloadCodec
from temporalio.worker import Replayer, Worker

from durathread.config.settings import Settings
from durathread.db import threads
from durathread.db.pool import Pool, connection, open_pool
from durathread.embedded.engines import Engines
from durathread.errors import ConfigError, NotFound
from durathread.plugin import DurathreadPlugin
from durathread.runs.signals import start_run
from durathread.workflows.messages import RunRequest
from tests.stack import Stack
from tests.workflows import agency
from tests.workflows.conftest import MakePlugin
from tests.workflows.neighbour import Neighbour, send_run
from tests.workflows.support import closed


@pytest.fixture(scope="module")
async def pool(database: str) -> AsyncIterator[Pool]:
    async with open_pool(database, size=2) as opened:
        yield opened


@pytest.fixture
async def client(engine_set: Engines, make_plugin: MakePlugin) -> Client:
    return await Client.connect(engine_set.temporal_address, plugins=[make_plugin()])


def worker_on(client: Client, **options: Any) -> Worker:
    """Build a worker of somebody else's."""
    options.setdefault("task_queue", f"theirs-{uuid4()}")
    return Worker(client, workflows=[Neighbour], activities=[send_run], **options)


def request_of(thread_id: str, label: str = "r1") -> RunRequest:
    payload = {"input": {"log": [label], "do": {}}, "if_not_exists": "create"}
    return RunRequest(run_id=str(uuid4()), thread_id=thread_id, assistant_id="agent", payload=payload)


async def run_through(client: Client, worker: Worker, request: RunRequest) -> None:
    """Let the other workflow send a run to a thread on its own task queue, and wait for its end."""
    await client.execute_workflow(
        Neighbour.run,
        args=[request, worker.task_queue],
        id=f"neighbour/{uuid4()}",
        task_queue=worker.task_queue,
    )
    found = await closed(client, f"run/{request.run_id}")
    assert found.status is WorkflowExecutionStatus.COMPLETED


async def values_of(pool: Pool, thread_id: str) -> Any:
    async with connection(pool) as conn:
        thread = await threads.get(conn, UUID(thread_id))
    assert thread is not None
    assert thread.status == "idle"
    return thread.values


async def test_a_graph_runs_beside_a_workflow_of_somebody_elses(client: Client, pool: Pool, thread_id: str) -> None:
    async with worker_on(client) as worker:
        await run_through(client, worker, request_of(thread_id))
    assert (await values_of(pool, thread_id))["log"] == ["r1", "a", "b", "c"]


async def test_two_workers_of_one_client_share_what_they_hold(client: Client, pool: Pool, thread_id: str) -> None:
    """The first to stop takes nothing away from the other."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(worker_on(client))
        async with worker_on(client) as second:
            await run_through(client, second, request_of(thread_id, "r1"))
        await run_through(client, first, request_of(str(UUID(int=UUID(thread_id).int ^ 1)), "r1"))
    async with worker_on(client, task_queue=first.task_queue) as again:
        await run_through(client, again, request_of(str(UUID(int=UUID(thread_id).int ^ 2)), "r1"))
    assert (await values_of(pool, thread_id))["log"] == ["r1", "a", "b", "c"]


async def test_a_worker_gets_our_options(client: Client, make_plugin: MakePlugin) -> None:
    settings = make_plugin().settings
    config = worker_on(client).config(active_config=True)
    found = {name: config.get(name) for name in OURS}
    assert found == {**OURS, "max_concurrent_activities": settings.jobs_per_worker}
    assert config.get("graceful_shutdown_timeout") == timedelta(seconds=settings.shutdown_grace)
    assert {activity.__name__ for activity in config.get("activities", ())} >= {"step", "settle", "admit", "send_run"}
    assert {workflow.__name__ for workflow in config.get("workflows", ())} >= {"Thread", "Run", "Sweep", "Neighbour"}


OURS: dict[str, Any] = {
    "max_concurrent_activities": 100,
    "max_concurrent_workflow_tasks": 100,
    "max_cached_workflows": 2000,
    "max_heartbeat_throttle_interval": timedelta(seconds=1),
    "default_heartbeat_throttle_interval": timedelta(seconds=1),
    "sticky_queue_schedule_to_start_timeout": timedelta(seconds=1),
}
THEIRS: dict[str, Any] = {
    "max_concurrent_activities": 7,
    "max_concurrent_workflow_tasks": 8,
    "max_cached_workflows": 90,
    "max_heartbeat_throttle_interval": timedelta(seconds=2),
    "default_heartbeat_throttle_interval": timedelta(seconds=2),
    "sticky_queue_schedule_to_start_timeout": timedelta(seconds=3),
    "graceful_shutdown_timeout": timedelta(seconds=4),
}


async def test_options_that_the_worker_was_given_win(client: Client) -> None:
    config = worker_on(client, **THEIRS).config(active_config=True)
    assert {name: config.get(name) for name in THEIRS} == THEIRS


class Reversed(PayloadCodec):
    """Stands in for encryption."""

    async def encode(self, payloads: Iterable[Payload]) -> list[Payload]:
        return [Payload(metadata={"encoding": b"test/reversed"}, data=p.SerializeToString()[::-1]) for p in payloads]

    async def decode(self, payloads: Iterable[Payload]) -> list[Payload]:
        return [Payload.FromString(p.data[::-1]) for p in payloads]


@pytest.mark.parametrize(
    "converter",
    [
        pytest.param(DataConverter.default, id="default"),
        pytest.param(pydantic_data_converter, id="pydantic"),
        pytest.param(dataclasses.replace(DataConverter.default, payload_codec=Reversed()), id="codec"),
    ],
)
async def test_a_client_keeps_its_converter_and_codec(
    engine_set: Engines, make_plugin: MakePlugin, pool: Pool, thread_id: str, converter: DataConverter
) -> None:
    client = await Client.connect(engine_set.temporal_address, plugins=[make_plugin()], data_converter=converter)
    assert client.data_converter.payload_converter_class is converter.payload_converter_class
    assert client.data_converter.payload_codec is converter.payload_codec
    request = request_of(thread_id)
    async with worker_on(client) as worker:
        await run_through(client, worker, request)
    assert (await values_of(pool, thread_id))["log"] == ["r1", "a", "b", "c"]
    history = await client.get_workflow_handle(f"run/{request.run_id}").fetch_history()
    [sent] = history.events[0].workflow_execution_started_event_attributes.input.payloads
    assert (thread_id.encode() in sent.data) is (converter.payload_codec is None)


async def test_a_replayer_needs_no_engines(client: Client, thread_id: str) -> None:
    request = request_of(thread_id)
    async with worker_on(client) as worker:
        await run_through(client, worker, request)
    nowhere = Settings(
        database_url="postgresql://nobody@127.0.0.1:1/nothing",
        redis_url="redis://127.0.0.1:1",
        config=Path("there-is-no/langgraph.json"),
    )
    replayer = Replayer(workflows=[], plugins=[DurathreadPlugin(nowhere)])
    for workflow_id in (f"run/{request.run_id}", f"thread/{thread_id}"):
        await replayer.replay_workflow(await client.get_workflow_handle(workflow_id).fetch_history())


async def test_a_worker_whose_graphs_cannot_be_loaded_says_so(
    engine_set: Engines, database: str, tmp_path: Path
) -> None:
    (tmp_path / "langgraph.json").write_text('{"graphs": {"broken": "./gone.py:graph"}}')
    settings = Settings(database_url=database, redis_url=engine_set.redis_url, config=tmp_path / "langgraph.json")
    client = await Client.connect(engine_set.temporal_address, plugins=[DurathreadPlugin(settings)])
    with pytest.raises(ConfigError, match="broken"):
        async with asyncio.timeout(30), worker_on(client):
            await asyncio.Event().wait()


async def test_the_worker_process_ends_when_its_graphs_cannot_be_built(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "langgraph.json").write_text('{"graphs": {"broken": "./broken.py:graph"}}')
    (tmp_path / "broken.py").write_text('def graph():\n    raise ValueError("not today")\n')
    stack = Stack({**environment, "DURATHREAD_CONFIG": str(tmp_path / "langgraph.json")}, tmp_path / "logs")
    process = await stack.start("worker")
    assert await asyncio.wait_for(process.wait(), 30) == 1
    assert "Graph 'broken' (./broken.py:graph) failed: ValueError: not today" in stack.log("worker")
    assert "The worker is ready" not in stack.log("worker")


async def test_a_sandboxed_workflow_asks_a_graph_that_no_file_names(
    engine_set: Engines, database: str, pool: Pool, thread_id: str
) -> None:
    settings = Settings(database_url=database, redis_url=engine_set.redis_url)
    client = await Client.connect(engine_set.temporal_address, plugins=[agency.plugin(settings)])
    queue = f"agency-{uuid4()}"
    async with Worker(client, task_queue=queue, workflows=[agency.Visit], activities=[agency.ask]):
        visit = await client.execute_workflow(
            agency.Visit.run, args=[thread_id, "Ada"], id=f"visit/{uuid4()}", task_queue=queue
        )
    assert visit == "success"
    assert (await values_of(pool, thread_id))["said"] == ["Ada", "Hello, Ada"]


def test_the_readme_shows_the_module_that_was_tried() -> None:
    source = Path(agency.__file__).read_text()
    shown = source[source.index("@activity.defn") :].rstrip()
    assert f"```python\n{shown}\n" in (Path(__file__).parents[2] / "README.md").read_text()


async def test_who_waits_for_a_run_that_its_thread_refuses_is_told_so(client: Client, thread_id: str) -> None:
    async with worker_on(client) as worker:
        await run_through(client, worker, request_of(thread_id))
        refused = dataclasses.replace(request_of(thread_id), assistant_id="nobody")
        started = await start_run(client, refused, task_queue=worker.task_queue)
        with pytest.raises(NotFound, match="has not begun"):
            await started.wait()


def test_what_is_neither_graph_nor_factory_is_refused_by_the_plugin() -> None:
    with pytest.raises(ConfigError, match=r"Graph .agent. .* is a str"):
        DurathreadPlugin(Settings(), graphs={"agent": "./agent.py:graph"})
    with pytest.raises(ConfigError, match="no graphs"):
        DurathreadPlugin(Settings(), graphs={})
