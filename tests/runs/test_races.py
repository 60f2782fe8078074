"""Runs that meet: bursts, and nodes that do not stop when told."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError
from temporalio.client import Client

from tests.eventually import eventually
from tests.runs.support import entered, is_there, log_of, start, status_becomes, statuses
from tests.stack import Stack

COMPLAINT = "A node blocks the event loop"


async def outcome_of(task: Any) -> str:
    try:
        return (await task)["status"]
    except ConflictError:
        return "409"


async def history_length(client: LangGraphClient, thread_id: str) -> int:
    return len(await client.threads.get_history(thread_id, limit=1000))


async def test_of_five_simultaneous_rejects_one_is_accepted(
    client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    await client.threads.create(thread_id=thread_id)
    gate = tmp_path / "gate"
    tries = [
        outcome_of(start(client, thread_id, f"r{n}", do={"b": {"until": str(gate)}}, multitask_strategy="reject"))
        for n in range(5)
    ]
    assert Counter(await asyncio.gather(*tries)) == {"pending": 1, "409": 4}
    gate.touch()
    await status_becomes(client, thread_id, "idle")


async def test_of_ten_interrupts_in_a_burst_one_survives(
    client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    await client.threads.create(thread_id=thread_id)
    gate = tmp_path / "gate"
    runs = await asyncio.gather(
        *(
            start(client, thread_id, f"r{n}", do={"b": {"until": str(gate)}}, multitask_strategy="interrupt")
            for n in range(10)
        )
    )
    gate.touch()
    await status_becomes(client, thread_id, "idle")
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
    trace, gate = tmp_path / "a", tmp_path / "gate"
    run = await start(client, thread_id, "r1", do={"a": {"trace": str(trace)}, "b": {"until": str(gate)}})
    await entered(trace)
    handle = temporal.get_workflow_handle(f"thread/{thread_id}")
    request = (await temporal.get_workflow_handle(f"run/{run['run_id']}").fetch_history()).events[0]
    payload = request.workflow_execution_started_event_attributes.input.payloads[0]
    [again] = await temporal.data_converter.decode([payload])
    await handle.signal("new_run", again)
    gate.touch()
    await client.runs.join(thread_id, run["run_id"])
    await handle.signal("new_run", again)
    later = await start(client, thread_id, "r2")
    await client.runs.join(thread_id, later["run_id"])
    assert await log_of(client, thread_id) == ["r1", "a", "b", "c", "r2", "a", "b", "c"]
    assert len(trace.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("behaviour", "also"),
    [
        pytest.param("stubborn_until", {}, id="swallows cancellation"),
        pytest.param("finally_until", {"sleep": 60}, id="cleans up slowly"),
        pytest.param("block_until", {}, id="blocks the event loop"),
    ],
)
async def test_a_node_that_does_not_stop_changes_nothing_afterwards(
    client: LangGraphClient, thread_id: str, tmp_path: Path, behaviour: str, also: dict[str, Any]
) -> None:
    trace, ended, gate = tmp_path / "b", tmp_path / "ended", tmp_path / "gate"
    does = {"trace": str(trace), "ended": str(ended), behaviour: str(gate), **also}
    first = await start(client, thread_id, "r1", do={"b": does})
    await entered(trace)
    second = await start(client, thread_id, "r2", multitask_strategy="interrupt")
    result: Any = await client.runs.join(thread_id, second["run_id"])
    assert result["log"] == ["r1", "a", "r2", "a", "b", "c"]
    length = await history_length(client, thread_id)
    thread = await client.threads.get(thread_id)
    assert not is_there(ended)
    gate.touch()

    async def old_node_ended() -> bool:
        return is_there(ended)

    await eventually(old_node_ended)
    third = await start(client, thread_id, "r3")
    await client.runs.join(thread_id, third["run_id"])
    assert await log_of(client, thread_id) == [*result["log"], "r3", "a", "b", "c"]
    assert await history_length(client, thread_id) == length + 5
    assert thread["status"] == "idle"
    assert (await client.runs.get(thread_id, first["run_id"]))["status"] == "interrupted"


async def test_other_threads_go_on_while_a_node_blocks(
    client: LangGraphClient, thread_id: str, tmp_path: Path, server: Stack
) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "b"
    blocked = await start(client, thread_id, "r1", do={"b": {"trace": str(trace), "block_until": str(gate)}})
    await entered(trace)
    complaints = server.log("worker").count(COMPLAINT)
    run = await start(client, other := str(uuid4()), "x")
    result: Any = await client.runs.join(other, run["run_id"])
    assert result["log"] == ["x", "a", "b", "c"]
    assert (await client.runs.get(thread_id, blocked["run_id"]))["status"] == "running"

    async def complained() -> bool:
        return server.log("worker").count(COMPLAINT) > complaints

    await eventually(complained)
    gate.touch()
    done: Any = await client.runs.join(thread_id, blocked["run_id"])
    assert done["log"] == ["r1", "a", "b", "c"]
    assert "agent.py" in server.log("worker")
