"""Processes that stand still and go on: what they were at ends once, and well."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from temporalio.client import Client, WorkflowExecutionStatus

from tests.eventually import eventually
from tests.runs.support import entered, lines, log_of, start
from tests.stack import Stack, running

DEBUGGER = Path(__file__).with_name("debugger.py")

# As short as a machine with much to do allows. What is compared with it is a multiple of it.
TIMEOUT = 3.0


@pytest.fixture(scope="module")
async def shared(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A server of these tests' own, on a task queue of its own."""
    own = {**environment, "DURATHREAD_TASK_QUEUE": "frozen", "DURATHREAD_HEARTBEAT_TIMEOUT": str(TIMEOUT)}
    async with running(own, tmp_path_factory.mktemp("frozen")) as found:
        yield found


@pytest.fixture
async def stack(shared: Stack) -> AsyncIterator[Stack]:
    """That server with an API and one worker."""
    if "worker" not in shared.processes:
        times = shared.log("worker").count("The worker is ready") + 1
        await shared.start("worker")
        await shared.worker_ready(times=times)
    yield shared
    for name in set(shared.processes) - {"worker", "api"}:
        await shared.kill(name)


@pytest.fixture
async def own_client(stack: Stack) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=stack.url) as found:
        yield found


async def another(stack: Stack) -> str:
    """Start one more worker, and return its name."""
    name = f"worker {uuid4().hex[:8]}"
    await stack.start(name, "worker")
    await stack.worker_ready(name)
    return name


async def ends_well(client: LangGraphClient, temporal: Client, thread_id: str, run_id: str) -> list[str]:
    """Wait for the end of a run, which must be a success for Temporal too; return the log of its thread."""
    await client.runs.join(thread_id, run_id)
    run = await client.runs.get(thread_id, run_id)
    assert run["status"] == "success"
    workflow = temporal.get_workflow_handle(f"run/{run_id}")

    async def completed() -> bool:
        return (await workflow.describe()).status is WorkflowExecutionStatus.COMPLETED

    await eventually(completed, what="the workflow is completed")
    return await log_of(client, thread_id)


def companion_of(pid: int) -> psutil.Process:
    """Find the process beside a worker."""
    [found] = [child for child in psutil.Process(pid).children() if "durathread.companion" in " ".join(child.cmdline())]
    return found


@asynccontextmanager
async def debugged(pid: int) -> AsyncGenerator[None]:
    """Hold a process as a debugger at a breakpoint does."""
    debugger = await asyncio.create_subprocess_exec(sys.executable, str(DEBUGGER), str(pid), stdin=PIPE, stdout=PIPE)
    assert debugger.stdout
    assert await debugger.stdout.readline() == b"held\n"
    try:
        yield
    finally:
        await debugger.communicate(b"\n")


async def test_a_worker_that_is_frozen_alone_goes_on_where_it_was(
    stack: Stack, own_client: LangGraphClient, thread_id: str, temporal: Client, tmp_path: Path
) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "b"
    run = await start(own_client, thread_id, "in", do={"b": {"trace": str(trace), "until": str(gate)}})
    await entered(trace)
    worker = stack.processes["worker"]
    worker.send_signal(signal.SIGSTOP)
    # Longer than two attempts of it live that its open polls have taken.
    await asyncio.sleep(3 * TIMEOUT)
    gate.touch()
    worker.send_signal(signal.SIGCONT)
    assert await ends_well(own_client, temporal, thread_id, run["run_id"]) == ["in", "a", "b", "c"]
    assert len(lines(trace)) == 1


async def test_a_run_of_a_frozen_worker_goes_on_elsewhere(
    stack: Stack, own_client: LangGraphClient, thread_id: str, temporal: Client, tmp_path: Path
) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "b"
    run = await start(own_client, thread_id, "in", do={"b": {"trace": str(trace), "until": str(gate)}})
    await entered(trace)
    await another(stack)
    worker = stack.processes["worker"]
    worker.send_signal(signal.SIGSTOP)
    await entered(trace, 2)
    worker.send_signal(signal.SIGCONT)
    gate.touch()
    assert await ends_well(own_client, temporal, thread_id, run["run_id"]) == ["in", "a", "b", "c"]
    assert len(lines(trace)) == 2


async def test_a_worker_that_was_frozen_while_idle_ends_no_run(
    stack: Stack, own_client: LangGraphClient, thread_id: str, temporal: Client, tmp_path: Path
) -> None:
    """Its open polls take attempts, which nobody works on."""
    idle = await another(stack)
    stack.processes[idle].send_signal(signal.SIGSTOP)
    traces = [tmp_path / str(number) for number in range(4)]
    runs = [
        (
            f"{thread_id[:-1]}{number}",
            await start(own_client, f"{thread_id[:-1]}{number}", "in", do={"a": {"trace": str(path)}}),
        )
        for number, path in enumerate(traces)
    ]
    await asyncio.sleep(2 * TIMEOUT)
    stack.processes[idle].send_signal(signal.SIGCONT)
    for thread, run in runs:
        assert await ends_well(own_client, temporal, thread, run["run_id"]) == ["in", "a", "b", "c"]
    assert [len(lines(path)) for path in traces] == [1] * 4


async def test_a_node_that_holds_the_gil_costs_nobody_anything(
    stack: Stack, own_client: LangGraphClient, thread_id: str, temporal: Client, tmp_path: Path
) -> None:
    gate, trace, held = tmp_path / "gate", tmp_path / "b", tmp_path / "held"
    neighbour = await start(own_client, thread_id, "in", do={"b": {"trace": str(trace), "until": str(gate)}})
    await entered(trace)
    other = f"{thread_id[:-4]}aaaa"
    # Longer than the SDK waits for heartbeats of its own process: five seconds more than the timeout.
    run = await start(own_client, other, "in", do={"b": {"trace": str(held), "hold_gil": TIMEOUT + 7}})
    await entered(held)
    assert await ends_well(own_client, temporal, other, run["run_id"]) == ["in", "a", "b", "c"]
    gate.touch()
    assert await ends_well(own_client, temporal, thread_id, neighbour["run_id"]) == ["in", "a", "b", "c"]
    assert [len(lines(path)) for path in (trace, held)] == [1, 1]


async def test_a_neighbour_of_thirty_megabytes_costs_nobody_anything(
    stack: Stack, own_client: LangGraphClient, thread_id: str, temporal: Client, tmp_path: Path
) -> None:
    gate, trace, written = tmp_path / "gate", tmp_path / "b", tmp_path / "written"
    neighbour = await start(own_client, thread_id, "in", do={"b": {"trace": str(trace), "until": str(gate)}})
    await entered(trace)
    other, large = f"{thread_id[:-4]}bbbb", 30 * 1024 * 1024
    run = await start(own_client, other, "in", do={"b": {"large": large}, "c": {"trace": str(written)}})
    assert [len(word) for word in await ends_well(own_client, temporal, other, run["run_id"])] == [2, 1, 1, large, 1]
    gate.touch()
    assert await ends_well(own_client, temporal, thread_id, neighbour["run_id"]) == ["in", "a", "b", "c"]
    assert [len(lines(path)) for path in (trace, written)] == [1, 1]


async def test_a_breakpoint_costs_nobody_anything(
    stack: Stack, own_client: LangGraphClient, thread_id: str, temporal: Client, tmp_path: Path
) -> None:
    """Whoever holds a worker there goes on from where it stands, also if another could have taken its step."""
    gate, trace = tmp_path / "gate", tmp_path / "b"
    do = {"b": {"trace": str(trace), "until": str(gate), "traceable": True}}
    run = await start(own_client, thread_id, "in", do=do)
    await entered(trace)
    await another(stack)
    async with debugged(stack.processes["worker"].pid):
        # Longer than the SDK waits for heartbeats of its own process: five seconds more than the timeout.
        await asyncio.sleep(TIMEOUT + 7)
        gate.touch()
    assert await ends_well(own_client, temporal, thread_id, run["run_id"]) == ["in", "a", "b", "c"]
    assert len(lines(trace)) == 1


async def test_a_worker_whose_companion_is_killed_has_another(
    stack: Stack, own_client: LangGraphClient, thread_id: str, temporal: Client, tmp_path: Path
) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "b"
    run = await start(own_client, thread_id, "in", do={"b": {"trace": str(trace), "until": str(gate)}})
    await entered(trace)
    worker = stack.processes["worker"]
    first = companion_of(worker.pid)
    first.kill()

    async def has_another() -> bool:
        children = psutil.Process(worker.pid).children()
        return any("durathread.companion" in " ".join(each.cmdline()) for each in children if each.pid != first.pid)

    await eventually(has_another)
    # The new one knows of what has begun before it: it hands that back.
    await another(stack)
    await stack.kill("worker")
    await entered(trace, 2)
    gate.touch()
    assert await ends_well(own_client, temporal, thread_id, run["run_id"]) == ["in", "a", "b", "c"]


async def test_a_companion_ends_with_its_worker(stack: Stack) -> None:
    other = await another(stack)
    ended = companion_of(stack.processes[other].pid)
    await stack.stop(other)
    third = await another(stack)
    killed = companion_of(stack.processes[third].pid)
    arguments = killed.cmdline()
    await stack.kill(third)

    async def gone() -> bool:
        return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in (ended, killed))

    await eventually(gone)
    assert stack.environment["TEMPORAL_ADDRESS"] not in " ".join(arguments)


async def test_postgres_that_drops_a_living_worker_counts_no_death(
    stack: Stack, own_client: LangGraphClient, thread_id: str, temporal: Client, tmp_path: Path, database: str
) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "b"
    run = await start(own_client, thread_id, "in", do={"b": {"trace": str(trace), "until": str(gate)}})
    await entered(trace)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as conn:
        await conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'durathread presence'"
        )
    await another(stack)
    worker = stack.processes["worker"]
    worker.send_signal(signal.SIGSTOP)
    await entered(trace, 2)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as conn:
        cursor = await conn.execute("SELECT deaths FROM run WHERE run_id = %s", (run["run_id"],))
        assert await cursor.fetchone() == (0,)
    worker.send_signal(signal.SIGCONT)
    gate.touch()
    assert await ends_well(own_client, temporal, thread_id, run["run_id"]) == ["in", "a", "b", "c"]
