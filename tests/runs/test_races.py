"""Runs that meet: bursts, and nodes that do not stop when told."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError
from temporalio.client import Client

from tests.eventually import eventually
from tests.runs.support import entered, is_there, log_of, start, statuses
from tests.stack import Stack

# The grace that conftest sets, plus what a busy machine adds; less than the nodes below take to end.
SOON = 8.0


async def outcome_of(task: Any) -> str:
    try:
        return (await task)["status"]
    except ConflictError:
        return "409"


async def history_length(client: LangGraphClient, thread_id: str) -> int:
    return len(await client.threads.get_history(thread_id, limit=1000))


async def test_of_five_simultaneous_rejects_one_is_accepted(client: LangGraphClient, thread_id: str) -> None:
    await client.threads.create(thread_id=thread_id)
    tries = [
        outcome_of(start(client, thread_id, f"r{n}", do={"b": {"sleep": 0.5}}, multitask_strategy="reject"))
        for n in range(5)
    ]
    assert Counter(await asyncio.gather(*tries)) == {"pending": 1, "409": 4}


async def test_of_ten_interrupts_in_a_burst_one_survives(client: LangGraphClient, thread_id: str) -> None:
    await client.threads.create(thread_id=thread_id)
    runs = await asyncio.gather(
        *(
            start(client, thread_id, f"r{n}", do={"b": {"sleep": 0.3}}, multitask_strategy="interrupt")
            for n in range(10)
        )
    )

    async def over() -> bool:
        return (await client.threads.get(thread_id))["status"] == "idle"

    await eventually(over, timeout=30)
    assert Counter(await statuses(client, thread_id)) == {"interrupted": 9, "success": 1}
    survivor = next(run for run in await client.runs.list(thread_id, limit=20) if run["status"] == "success")
    log = await log_of(client, thread_id)
    assert log[-4:] == [f"r{[run['run_id'] for run in runs].index(survivor['run_id'])}", "a", "b", "c"]


async def test_an_interrupt_right_after_the_start_wins(client: LangGraphClient, thread_id: str) -> None:
    """Before the first step, or during it: the old run writes nothing after the new one has begun."""
    for round_number in range(5):
        thread = f"{thread_id[:-2]}{round_number:02d}"
        await start(client, thread, "r1")
        second = await start(client, thread, "r2", multitask_strategy="interrupt")
        result: Any = await client.runs.join(thread, second["run_id"])
        assert result["log"][-4:] == ["r2", "a", "b", "c"]
        assert (await log_of(client, thread)) == result["log"]


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.14])
async def test_an_interrupt_at_any_moment_leaves_a_consistent_thread(
    client: LangGraphClient, thread_id: str, delay: float
) -> None:
    """Between steps, during the last, just after the end: the old run either succeeded or was interrupted."""
    first = await start(client, thread_id, "r1")
    await asyncio.sleep(delay)
    second = await start(client, thread_id, "r2", multitask_strategy="interrupt")
    await client.runs.join(thread_id, second["run_id"])
    log = await log_of(client, thread_id)
    old = (await client.runs.get(thread_id, first["run_id"]))["status"]
    done = ["r1", "a", "b", "c"]
    before = log[: log.index("r2")]
    assert log[log.index("r2") :] == ["r2", "a", "b", "c"]
    assert before == done[: len(before)]
    if old == "success":
        assert before == done
    else:
        assert old == "interrupted"


async def test_the_same_run_signalled_twice_runs_once(
    client: LangGraphClient, thread_id: str, temporal: Client, tmp_path: Path
) -> None:
    trace = tmp_path / "a"
    run = await start(client, thread_id, "r1", do={"a": {"trace": str(trace)}, "b": {"sleep": 1}})
    await entered(trace)
    handle = temporal.get_workflow_handle(f"thread/{thread_id}")
    request = (await temporal.get_workflow_handle(f"run/{run['run_id']}").fetch_history()).events[0]
    payload = request.workflow_execution_started_event_attributes.input.payloads[0]
    [again] = await temporal.data_converter.decode([payload])
    await handle.signal("new_run", again)
    await client.runs.join(thread_id, run["run_id"])
    await handle.signal("new_run", again)
    later = await start(client, thread_id, "r2")
    await client.runs.join(thread_id, later["run_id"])
    assert await log_of(client, thread_id) == ["r1", "a", "b", "c", "r2", "a", "b", "c"]
    assert len(trace.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param({"stubborn": 12}, id="swallows cancellation"),
        pytest.param({"sleep": 30, "slow_finally": 12}, id="cleans up slowly"),
        pytest.param({"block": 12}, id="blocks the event loop"),
    ],
)
async def test_a_node_that_does_not_stop_changes_nothing_afterwards(
    client: LangGraphClient, thread_id: str, tmp_path: Path, behaviour: dict[str, Any]
) -> None:
    trace, ended = tmp_path / "b", tmp_path / "ended"
    first = await start(client, thread_id, "r1", do={"b": {"trace": str(trace), "ended": str(ended), **behaviour}})
    await entered(trace)
    second = await start(client, thread_id, "r2", multitask_strategy="interrupt")
    async with asyncio.timeout(SOON):
        result: Any = await client.runs.join(thread_id, second["run_id"])
    assert result["log"] == ["r1", "a", "r2", "a", "b", "c"]
    length = await history_length(client, thread_id)
    thread = await client.threads.get(thread_id)
    assert not is_there(ended)

    async def old_node_ended() -> bool:
        return is_there(ended)

    await eventually(old_node_ended, timeout=20)
    third = await start(client, thread_id, "r3")
    await client.runs.join(thread_id, third["run_id"])
    assert await log_of(client, thread_id) == [*result["log"], "r3", "a", "b", "c"]
    assert await history_length(client, thread_id) == length + 5
    assert thread["status"] == "idle"
    assert (await client.runs.get(thread_id, first["run_id"]))["status"] == "interrupted"


async def test_other_threads_go_on_while_a_node_blocks(
    client: LangGraphClient, thread_id: str, tmp_path: Path, server: Stack
) -> None:
    trace = tmp_path / "b"
    blocked = await start(client, thread_id, "r1", do={"b": {"trace": str(trace), "block": 6}})
    await entered(trace)
    other = f"{thread_id[:-2]}ff"
    async with asyncio.timeout(5):
        run = await start(client, other, "x")
        result: Any = await client.runs.join(other, run["run_id"])
    assert result["log"] == ["x", "a", "b", "c"]
    assert (await client.runs.get(thread_id, blocked["run_id"]))["status"] == "running"
    done: Any = await client.runs.join(thread_id, blocked["run_id"])
    assert done["log"] == ["r1", "a", "b", "c"]
    assert "A node blocks the event loop" in server.log("worker")
    assert "agent.py" in server.log("worker")
