"""Workers and engines that stop in the midst of a step: a run succeeds once all of its graph has run, and no sooner."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from durathread.embedded.engines import Engines
from tests.chaos.havoc import family, send
from tests.conftest import environment_of
from tests.eventually import eventually
from tests.runs.support import lines
from tests.stack import GRAPHS, Stack, running

# What each graph leaves, and the places in it that can be held.
GRAPHS_AND_PLACES: dict[str, tuple[list[str], list[str]]] = {
    "routed": (["draft", "publish"], ["draft", "route", "publish"]),
    "blocked": (["draft", "publish"], ["draft", "route"]),
    "nested": (["draft", "publish", "after"], ["draft", "route", "publish", "after"]),
    "commanding": (["draft", "publish"], ["draft"]),
    "sending": (["draft", "work0", "work1", "work2", "publish"], ["fan", "work1", "route"]),
    "functional": (["draft", "publish"], ["draft", "publish"]),
    "agent": (["", "", "found", "found"], ["model", "condition", "tool"]),
}
EVERYWHERE = [(graph, place) for graph, (_, places) in GRAPHS_AND_PLACES.items() for place in places]
# It blocks the event loop of all others.
REDUCER = [("reducing", "reducer")]
LOGS = {graph: log for graph, (log, _) in GRAPHS_AND_PLACES.items()} | {"reducing": ["draft", "publish"]}


@pytest.fixture(scope="module")
async def shared(engine_set: Engines, database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    assert database
    own = environment_of(engine_set, queue="unfinished", config=GRAPHS.parent / "places.json")
    own["DURATHREAD_HEARTBEAT_TIMEOUT"] = "2"
    async with running(own, tmp_path_factory.mktemp("unfinished")) as found:
        yield found


@pytest.fixture
async def stack(shared: Stack) -> AsyncIterator[Stack]:
    """A server with an API and one worker."""
    if "worker" not in shared.processes:
        await shared.start("worker")
    yield shared
    for name in set(shared.processes) - {"worker", "api"}:
        await shared.stop(name)


Calamity = Callable[[Stack, Engines], Awaitable[None]]


async def stopped(stack: Stack, engine_set: Engines) -> None:
    """Stop the only worker, as a deploy does, and start it again."""
    assert await stack.stop("worker") == 0
    await stack.start("worker")


async def handed_over(stack: Stack, engine_set: Engines) -> None:
    """Stop one of two workers."""
    await stack.start("other", "worker")
    await stack.worker_ready("other")
    assert await stack.stop("worker") == 0


async def frozen(stack: Stack, engine_set: Engines) -> None:
    """Freeze the worker until its steps have been given up."""
    await freeze([stack.processes["worker"].pid])


async def asleep(stack: Stack, engine_set: Engines) -> None:
    """Freeze everything, as a laptop does that is closed."""
    engines = [engine_set.postgres, engine_set.valkey, engine_set.temporal]
    pids = [pid for engine in engines if engine.pid is not None for pid in family(engine.pid)]
    await freeze([*pids, *(process.pid for process in stack.processes.values())])


async def freeze(pids: list[int]) -> None:
    send(pids, signal.SIGSTOP)
    try:
        # Longer than a heartbeat may take.
        await asyncio.sleep(3)
    finally:
        send(pids, signal.SIGCONT)


@pytest.mark.parametrize(
    ("calamity", "held"),
    [
        pytest.param(stopped, EVERYWHERE, id="stopped"),
        pytest.param(handed_over, EVERYWHERE, id="handed over"),
        pytest.param(frozen, EVERYWHERE, id="frozen"),
        pytest.param(asleep, EVERYWHERE, id="asleep"),
        pytest.param(stopped, REDUCER, id="stopped in a reducer"),
        pytest.param(asleep, REDUCER, id="asleep in a reducer"),
    ],
)
async def test_a_run_succeeds_once_all_of_its_graph_has_run(
    stack: Stack, engine_set: Engines, tmp_path: Path, calamity: Calamity, held: list[tuple[str, str]]
) -> None:
    gate = tmp_path / "gate"
    async with get_client(url=stack.url) as client:
        started = [await start(client, graph, place, gate=gate) for graph, place in held]
        for (_, place), (_, _, trace) in zip(held, started, strict=True):

            async def there(place: str = place, trace: Path = trace) -> bool:
                return place in lines(trace)

            await eventually(there, what=f"{place} in {trace}")
        await calamity(stack, engine_set)
        gate.touch()
        ends = {
            (graph, place): await end_of(client, thread_id, run_id)
            for (graph, place), (thread_id, run_id, _) in zip(held, started, strict=True)
        }
    assert ends == {(graph, place): ("success", "idle", LOGS[graph]) for graph, place in held}


async def start(client: LangGraphClient, graph: str, place: str, *, gate: Path) -> tuple[str, str, Path]:
    """Start a run that waits at a place of its graph."""
    trace = gate.parent / f"{graph}-{place}"
    given: Any = {"messages": [{"role": "user", "content": ""}]} if graph == "agent" else {"log": []}
    configurable = {"trace": str(trace), "gates": {place: str(gate)}}
    thread_id = str(uuid4())
    run = await client.runs.create(
        thread_id, graph, input=given, config={"configurable": configurable}, if_not_exists="create"
    )
    return thread_id, run["run_id"], trace


async def end_of(client: LangGraphClient, thread_id: str, run_id: str) -> tuple[str, str, list[str]]:
    """Say how a run and its thread have ended, and which nodes have run."""

    async def over() -> str | None:
        status = (await client.runs.get(thread_id, run_id))["status"]
        return None if status in ("pending", "running") else status

    status = await eventually(over, timeout=60, what="the end of the run")
    thread: Any = await client.threads.get(thread_id)
    values: Any = (await client.threads.get_state(thread_id))["values"]
    log = values["log"] if "log" in values else [message["content"] for message in values["messages"]]
    return str(status), thread["status"], log
