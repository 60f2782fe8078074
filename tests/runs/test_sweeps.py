"""What crashes leave between Postgres and Temporal, and how it is found."""

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
from langgraph_sdk.client import LangGraphClient
from temporalio.client import Client

from durathread.db import admission
from durathread.db.pool import open_pool, transaction
from durathread.workflows.messages import Sweep
from tests.eventually import eventually
from tests.runs.support import entered, is_there, log_of, start, status_becomes
from tests.stack import Stack
from tests.workflows.support import closed


async def sweep(temporal: Client, server: Stack, age: float = 0) -> int:
    """Do what the server does when there is something to do."""
    queue = server.environment["DURATHREAD_TASK_QUEUE"]
    return await temporal.execute_workflow("Sweep", Sweep(age=age), id=f"sweep-{uuid4()}", task_queue=queue)


async def end_silently(database: str, thread_id: str, run_id: str, *, action: admission.CancelAction) -> None:
    """Cancel a run as an API does that is killed before it tells anybody."""
    async with open_pool(database, size=2) as pool, transaction(pool) as conn:
        ended = await admission.cancel(conn, UUID(thread_id), run_ids=[UUID(run_id)], action=action, reason="test")
    assert [str(run.run_id) for run in ended] == [run_id]


async def signals(temporal: Client, thread_id: str) -> int:
    history = await temporal.get_workflow_handle(f"thread/{thread_id}").fetch_history()
    return sum(event.HasField("workflow_execution_signaled_event_attributes") for event in history.events)


async def test_a_sweep_leaves_alone_what_a_thread_holds(
    client: LangGraphClient, thread_id: str, tmp_path: Path, server: Stack, temporal: Client, database: str
) -> None:
    """Else each sweep would add to the history of a thread with a long queue, until it is full."""
    gate, trace = tmp_path / "gate", tmp_path / "a"
    await start(client, thread_id, "r0", do={"a": {"trace": str(trace), "until": str(gate)}})
    queued = [await start(client, thread_id, f"r{n}") for n in range(1, 4)]
    await entered(trace)
    before = await signals(temporal, thread_id)
    await sweep(temporal, server)
    await sweep(temporal, server)
    assert await signals(temporal, thread_id) == before == 4
    # And it notes that it has asked: the next sweeps leave the thread in peace for a while.
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as conn:
        query = "SELECT count(*) FROM run WHERE thread_id = %s AND asked_at IS NOT NULL"
        assert await (await conn.execute(query, (thread_id,))).fetchone() == (4,)
    gate.touch()
    result: Any = await client.runs.join(thread_id, queued[-1]["run_id"])
    assert [entry for entry in result["log"] if entry.startswith("r")] == ["r0", "r1", "r2", "r3"]


async def test_a_lost_thread_is_taken_up_in_order_with_the_run_that_works(
    client: LangGraphClient, thread_id: str, tmp_path: Path, server: Stack, temporal: Client
) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "a"
    await start(client, thread_id, "r0", do={"a": {"trace": str(trace), "until": str(gate)}})
    last = await start(client, thread_id, "r1")
    await entered(trace)
    await temporal.get_workflow_handle(f"thread/{thread_id}").terminate()
    assert await sweep(temporal, server) >= 2
    gate.touch()
    result: Any = await client.runs.join(thread_id, last["run_id"])
    assert result["log"] == ["r0", "a", "b", "c", "r1", "a", "b", "c"]


async def test_a_thread_that_does_not_answer_holds_up_no_other(
    client: LangGraphClient, server: Stack, temporal: Client
) -> None:
    mute, lost = str(uuid4()), str(uuid4())
    for thread_id in (mute, lost):
        await start(client, thread_id, "r", after_seconds=0.5)
        await temporal.get_workflow_handle(f"thread/{thread_id}").terminate()
    # Its workflow is there, and nobody works for it.
    handle = await temporal.start_workflow("Thread", id=f"thread/{mute}", task_queue="nobody")

    async def found() -> bool:
        # The server itself may have come first.
        await sweep(temporal, server)
        return (await client.threads.get(lost))["status"] == "idle"

    await eventually(found)
    assert await log_of(client, lost) == ["r", "a", "b", "c"]
    assert (await client.threads.get(mute))["status"] == "busy"
    await handle.terminate()
    await sweep(temporal, server)
    await status_becomes(client, mute, "idle")


async def test_a_node_stops_although_nobody_told_it_that_its_run_has_ended(
    client: LangGraphClient, thread_id: str, tmp_path: Path, database: str, temporal: Client
) -> None:
    trace, ended = tmp_path / "b", tmp_path / "ended"
    do = {"b": {"trace": str(trace), "sleep": 600, "ended": str(ended)}}
    run = await start(client, thread_id, "r1", do=do)
    await entered(trace)
    await end_silently(database, thread_id, run["run_id"], action="interrupt")
    later = await start(client, thread_id, "r2")
    result: Any = await client.runs.join(thread_id, later["run_id"])
    assert is_there(ended)
    assert result["log"] == ["r1", "a", "r2", "a", "b", "c"]
    await closed(temporal, f"run/{run['run_id']}")


async def test_a_thread_does_not_stay_busy_with_a_run_that_was_rolled_back_silently(
    client: LangGraphClient, thread_id: str, tmp_path: Path, database: str
) -> None:
    trace = tmp_path / "b"
    run = await start(client, thread_id, "r1", do={"b": {"trace": str(trace), "sleep": 600}})
    await entered(trace)
    await end_silently(database, thread_id, run["run_id"], action="rollback")
    later = await start(client, thread_id, "r2")
    result: Any = await client.runs.join(thread_id, later["run_id"])
    assert result["log"] == ["r2", "a", "b", "c"]
    await status_becomes(client, thread_id, "idle")


async def test_a_sweep_settles_what_a_lost_thread_cannot(
    client: LangGraphClient, thread_id: str, tmp_path: Path, server: Stack, temporal: Client, database: str
) -> None:
    trace = tmp_path / "b"
    run = await start(client, thread_id, "r1", do={"b": {"trace": str(trace), "sleep": 600}})
    await entered(trace)
    # Nobody is left to hear of the cancellation.
    await temporal.get_workflow_handle(f"thread/{thread_id}").terminate()
    await temporal.get_workflow_handle(f"run/{run['run_id']}").terminate()
    await end_silently(database, thread_id, run["run_id"], action="interrupt")
    assert (await client.threads.get(thread_id))["status"] == "busy"
    await sweep(temporal, server)
    thread: Any = await client.threads.get(thread_id)
    assert (thread["status"], thread["values"]["log"]) == ("interrupted", ["r1", "a"])


async def test_a_sweep_frees_a_thread_whose_last_run_is_gone(
    client: LangGraphClient, thread_id: str, server: Stack, temporal: Client, database: str
) -> None:
    run = await start(client, thread_id, "r1")
    await client.runs.join(thread_id, run["run_id"])
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as conn:
        await conn.execute("UPDATE thread SET status = 'busy' WHERE thread_id = %s", (thread_id,))
    await sweep(temporal, server)
    assert (await client.threads.get(thread_id))["status"] == "idle"


async def test_a_cancelled_run_may_be_deleted_at_once(client: LangGraphClient, thread_id: str, tmp_path: Path) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "b"
    run = await start(client, thread_id, "r1", do={"b": {"trace": str(trace), "stubborn_until": str(gate)}})
    await entered(trace)
    await client.runs.cancel(thread_id, run["run_id"], wait=False)
    await client.runs.delete(thread_id, run["run_id"])
    assert (await client.threads.get(thread_id))["status"] == "idle"
    usable = await start(client, thread_id, "r2")
    await client.runs.join(thread_id, usable["run_id"])
    gate.touch()
    assert await log_of(client, thread_id) == ["r2", "a", "b", "c"]


async def test_a_thread_that_is_made_again_while_its_namesake_is_deleted_runs(
    client: LangGraphClient, thread_id: str, tmp_path: Path, temporal: Client
) -> None:
    trace, gate = tmp_path / "a", tmp_path / "gate"
    await start(client, thread_id, "old", do={"a": {"trace": str(trace), "stubborn_until": str(gate)}})
    await entered(trace)
    await client.threads.delete(thread_id)
    new = await start(client, thread_id, "new", do={"a": {"until": str(gate)}})
    queued = await start(client, thread_id, "next")
    # The news of the deletion comes last, from an API that was slow.
    await temporal.get_workflow_handle(f"thread/{thread_id}").signal("close", {"upto": 0})
    gate.touch()

    async def done() -> bool:
        return (await client.runs.get(thread_id, queued["run_id"]))["status"] == "success"

    await eventually(done)
    assert await log_of(client, thread_id) == ["new", "a", "b", "c", "next", "a", "b", "c"]
    assert (await client.runs.get(thread_id, new["run_id"]))["status"] == "success"
