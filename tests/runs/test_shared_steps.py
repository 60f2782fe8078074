"""Supersteps that share an activity: each counts by itself, whatever happens to the activity."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from temporalio.client import Client

from tests.eventually import eventually
from tests.runs.support import entered, lines, log_of, start, statuses
from tests.stack import Stack, running
from tests.workflows.support import closed, details, supersteps

NAMES = ["s1", "s2", "s3", "s4", "s5"]
LOCK = "SELECT 1 FROM thread WHERE thread_id = %s FOR UPDATE"
WAITING = "SELECT 1 FROM pg_locks WHERE NOT granted"


@pytest.fixture(scope="module")
async def shared(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    # No machine is so slow that a short superstep ends an activity; no heartbeat decides.
    own = {
        **environment,
        "DURATHREAD_TASK_QUEUE": "shared",
        "DURATHREAD_STEP_BUDGET": "600",
        "DURATHREAD_HEARTBEAT_TIMEOUT": "300",
    }
    async with running(own, tmp_path_factory.mktemp("shared")) as found:
        yield found


@pytest.fixture
async def stack(shared: Stack) -> Stack:
    """A server with an API and one worker, whatever the test before has killed."""
    if "worker" not in shared.processes or shared.processes["worker"].returncode is not None:
        shared.processes.pop("worker", None)
        await shared.start("worker")
    return shared


@pytest.fixture
async def own_client(stack: Stack) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=stack.url) as found:
        yield found


def traced(folder: Path, **do: dict[str, str]) -> dict[str, dict[str, str]]:
    """Have each node leave a line in a file of its name."""
    return {name: {"trace": str(folder / name), **do.get(name, {})} for name in NAMES}


def entries(folder: Path) -> list[int]:
    """Say how often each node was entered."""
    return [len(lines(folder / name)) for name in NAMES]


async def kill_at(stack: Stack, trace: Path) -> None:
    """Kill the worker once a node is at work, and start another."""
    await entered(trace)
    os.kill(int(lines(trace)[0].split()[1]), signal.SIGKILL)
    await stack.stop("worker")
    await stack.start("worker")


async def test_supersteps_that_are_short_share_an_activity(
    own_client: LangGraphClient, thread_id: str, temporal: Client
) -> None:
    run = await start(own_client, thread_id, "in", graph="five")
    await own_client.runs.join(thread_id, run["run_id"])
    await closed(temporal, f"run/{run['run_id']}")
    assert await supersteps(temporal, run["run_id"]) == [NAMES]
    shown = await details(temporal, f"run/{run['run_id']}")
    assert [line.split()[1] for line in shown.splitlines()] == NAMES


async def test_a_crash_repeats_no_superstep_that_shared_its_activity(
    stack: Stack, own_client: LangGraphClient, thread_id: str, tmp_path: Path, temporal: Client
) -> None:
    gate = tmp_path / "gate"
    run = await start(own_client, thread_id, "in", graph="five", do=traced(tmp_path, s3={"until": str(gate)}))
    await kill_at(stack, tmp_path / "s3")
    await entered(tmp_path / "s3", 2)
    gate.touch()
    result: Any = await own_client.runs.join(thread_id, run["run_id"])
    assert result["log"] == ["in", *NAMES]
    assert entries(tmp_path) == [1, 1, 2, 1, 1]
    await closed(temporal, f"run/{run['run_id']}")
    # What is repeated goes on alone.
    assert await supersteps(temporal, run["run_id"]) == [["s3"], ["s4", "s5"]]


async def test_a_superstep_that_kills_its_worker_again_and_again_ends_its_run_and_no_other_counts(
    stack: Stack, own_client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    gates = {name: tmp_path / f"gate-{name}" for name in ("s2", "s4")}
    do = traced(tmp_path, **{name: {"until": str(gate)} for name, gate in gates.items()})
    run = await start(own_client, thread_id, "in", graph="five", do=do)
    for name, gate in gates.items():
        for times in (1, 2):
            await entered(tmp_path / name, times)
            os.kill(int(lines(tmp_path / name)[-1].split()[1]), signal.SIGKILL)
            await stack.stop("worker")
            await stack.start("worker")
        await entered(tmp_path / name, 3)
        gate.touch()
    result: Any = await own_client.runs.join(thread_id, run["run_id"])
    assert result["log"] == ["in", *NAMES]
    assert entries(tmp_path) == [1, 3, 1, 3, 1]


@pytest.mark.parametrize("limit", [5, 6])
async def test_the_recursion_limit_counts_what_was_done_before_a_crash(
    stack: Stack, own_client: LangGraphClient, thread_id: str, tmp_path: Path, limit: int
) -> None:
    gate = tmp_path / "gate"
    run = await start(
        own_client,
        thread_id,
        "in",
        graph="five",
        do=traced(tmp_path, s3={"until": str(gate)}),
        config={"recursion_limit": limit},
    )
    await kill_at(stack, tmp_path / "s3")
    gate.touch()
    await own_client.runs.join(thread_id, run["run_id"])
    found: Any = await own_client.threads.get(thread_id)
    assert (await own_client.runs.get(thread_id, run["run_id"]))["status"] == ("success" if limit == 6 else "error")
    if limit == 5:
        assert "Recursion limit of 5 reached" in str(found["error"])


async def test_a_run_that_is_interrupted_stops_in_the_superstep_that_it_is_at(
    own_client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    do = traced(tmp_path, s2={"until": str(tmp_path / "never"), "ended": str(tmp_path / "cancelled")})
    await start(own_client, thread_id, "one", graph="five", do=do)
    await entered(tmp_path / "s2")
    second = await start(own_client, thread_id, "two", graph="five", multitask_strategy="interrupt")
    await own_client.runs.join(thread_id, second["run_id"])
    assert (tmp_path / "cancelled").exists()
    assert entries(tmp_path) == [1, 1, 0, 0, 0]
    assert await statuses(own_client, thread_id) == ["interrupted", "success"]
    assert await log_of(own_client, thread_id) == ["one", "s1", "two", *NAMES]


async def test_no_superstep_begins_once_the_run_is_anothers(
    stack: Stack, own_client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    run = await start(own_client, thread_id, "in", graph="five", do=traced(tmp_path, s1={"until": str(gate)}))
    await entered(tmp_path / "s1")
    with psycopg.connect(stack.environment["DATABASE_URL"], autocommit=True) as conn:
        # As by a process that was to cancel it next, and stopped.
        conn.execute("UPDATE run SET status = 'interrupted', ended_at = now() WHERE run_id = %s", (run["run_id"],))
    gate.touch()
    second = await start(own_client, thread_id, "two", graph="five")
    await own_client.runs.join(thread_id, second["run_id"])
    assert entries(tmp_path) == [1, 0, 0, 0, 0]
    assert await statuses(own_client, thread_id) == ["interrupted", "success"]


@pytest.mark.parametrize(
    "breakpoints", [{"interrupt_before": ["s3"]}, {"interrupt_after": ["s2"]}, {"interrupt_after": "*"}]
)
async def test_a_breakpoint_holds_after_a_crash_right_in_front_of_it(
    stack: Stack, own_client: LangGraphClient, thread_id: str, tmp_path: Path, breakpoints: dict[str, Any]
) -> None:
    stop = 1 if breakpoints.get("interrupt_after") == "*" else 2
    await own_client.threads.create(thread_id=thread_id)
    gate = tmp_path / "gate"
    do = traced(tmp_path, **{NAMES[stop - 1]: {"until": str(gate)}})
    run = await start(own_client, thread_id, "in", graph="five", do=do, **breakpoints)
    await entered(tmp_path / NAMES[stop - 1])
    async with await psycopg.AsyncConnection.connect(stack.environment["DATABASE_URL"]) as holding:
        await holding.execute(LOCK, (thread_id,))
        gate.touch()

        async def waits() -> bool:
            return bool(await (await holding.execute(WAITING)).fetchall())

        await eventually(waits, what="the run is about to end")
        await stack.kill("worker")
    await stack.start("worker")
    await own_client.runs.join(thread_id, run["run_id"])
    assert entries(tmp_path) == [1] * stop + [0] * (5 - stop)
    assert (await own_client.threads.get(thread_id))["status"] == "interrupted"
    state: Any = await own_client.threads.get_state(thread_id)
    assert (state["next"], state["values"]["log"]) == ([NAMES[stop]], ["in", *NAMES[:stop]])


async def test_without_a_budget_each_superstep_is_an_activity(
    stack: Stack, own_client: LangGraphClient, thread_id: str, temporal: Client
) -> None:
    await stack.stop("worker")
    before = stack.environment
    stack.environment = {**before, "DURATHREAD_STEP_BUDGET": "0"}
    try:
        await stack.start("worker")
        run = await start(own_client, thread_id, "in", graph="five")
        await own_client.runs.join(thread_id, run["run_id"])
        await closed(temporal, f"run/{run['run_id']}")
        assert await supersteps(temporal, run["run_id"]) == [[name] for name in NAMES]
    finally:
        stack.environment = before
        await stack.stop("worker")
