"""Threads that live long: their workflow continues as new, and carries along what it knows."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHistory
from temporalio.worker import Replayer, Worker

from durathread.db import threads
from durathread.db.pool import connection, open_pool
from durathread.workflows.messages import Cancellation, RunRequest, ThreadState
from tests.eventually import eventually
from tests.workflows.conftest import MakePlugin
from tests.workflows.hasty import EVENTS, hasty_server
from tests.workflows.support import chain, closed, described, details


@pytest.fixture
async def client(make_plugin: MakePlugin, tmp_path: Path) -> AsyncIterator[Client]:
    async with hasty_server(tmp_path / "temporal") as address:
        yield await Client.connect(address, plugins=[make_plugin()])


def request_of(thread_id: str, label: str, **do: dict[str, str]) -> RunRequest:
    payload = {"input": {"log": [label], "do": do}, "if_not_exists": "create"}
    return RunRequest(run_id=str(uuid4()), thread_id=thread_id, assistant_id="agent", payload=payload)


async def admissions(client: Client, histories: list[WorkflowHistory]) -> Counter[str]:
    """Count how often each run was admitted."""
    found = Counter[str]()
    for history in histories:
        for event in history.events:
            attributes = event.activity_task_scheduled_event_attributes
            if attributes.activity_type.name == "admit":
                [request] = await client.data_converter.decode(list(attributes.input.payloads), [RunRequest])
                found[request.run_id] += 1
    return found


async def test_a_thread_keeps_its_queue_and_its_memory(
    client: Client, make_plugin: MakePlugin, thread_id: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    first = request_of(thread_id, "r0", a={"until": str(gate)})
    runs = [first, *(request_of(thread_id, f"r{n}") for n in range(1, 10))]
    delayed = request_of(thread_id, "late")
    delayed = replace(delayed, payload={**(delayed.payload or {}), "after_seconds": 3600})
    async with Worker(client, task_queue="hasty"):
        handle = await client.start_workflow("Thread", ThreadState(), id=f"thread/{thread_id}", task_queue="hasty")
        for request in (delayed, *runs):
            await handle.signal("new_run", request)

        async def queued() -> bool:
            return len(await handle.query("queue")) == len(runs)

        await eventually(queued)
        gate.touch()
        for request in runs:
            found = await closed(client, f"run/{request.run_id}")
            assert found.status is WorkflowExecutionStatus.COMPLETED
        # All of them again, to a workflow that has not seen them itself; then one more, to know that it has looked.
        handle = client.get_workflow_handle(f"thread/{thread_id}")
        for request in (*runs, delayed):
            await handle.signal("new_run", request)
        last = request_of(thread_id, "last")
        await handle.signal("new_run", last)
        await closed(client, f"run/{last.run_id}")
        assert await handle.query("queue") == [delayed.run_id]
        assert f"`{runs[5].run_id}` success" in await details(client, f"thread/{thread_id}")
        histories = await chain(client, f"thread/{thread_id}")
    assert len(histories) > 2
    assert await admissions(client, histories) == {request.run_id: 1 for request in (delayed, *runs, last)}
    assert await log_of(make_plugin, thread_id) == [
        entry for label in [*(f"r{n}" for n in range(10)), "last"] for entry in (label, "a", "b", "c")
    ]
    for history in histories:
        await Replayer(workflows=[], plugins=[make_plugin()]).replay_workflow(history)


async def log_of(make_plugin: MakePlugin, thread_id: str) -> list[str]:
    async with open_pool(make_plugin().settings.database_url, size=2) as pool, connection(pool) as conn:
        thread = await threads.get(conn, UUID(thread_id))
    assert thread is not None
    return thread.values["log"]


async def test_a_run_takes_more_steps_than_a_history_has_room_for(
    client: Client, make_plugin: MakePlugin, thread_id: str
) -> None:
    steps = 30
    payload = {"input": {"plan": {"id": "p", "items": [0] * steps}, "log": ["in"]}, "if_not_exists": "create"}
    request = RunRequest(run_id=str(uuid4()), thread_id=thread_id, assistant_id="plans", payload=payload)
    async with Worker(client, task_queue="hasty"):
        handle = await client.start_workflow("Thread", ThreadState(), id=f"thread/{thread_id}", task_queue="hasty")
        await handle.signal("new_run", request)

        async def over() -> bool:
            return f"`{request.run_id}` success" in await details(client, f"thread/{thread_id}")

        await eventually(over, timeout=30)
        histories = await chain(client, f"run/{request.run_id}")
    assert len(histories) > 2
    assert max(len(history.events) for history in histories) < 2 * EVENTS
    assert await log_of(make_plugin, thread_id) == ["in", *(f"p/{n}/{request.run_id}" for n in range(steps))]
    for history in histories:
        await Replayer(workflows=[], plugins=[make_plugin()]).replay_workflow(history)


async def test_a_run_that_goes_on_can_be_cancelled_and_has_no_more_time(
    client: Client, make_plugin: MakePlugin, thread_id: str
) -> None:
    payload = {"input": {"plan": {"id": "p", "items": [0] * 15 + [60]}, "log": []}, "if_not_exists": "create"}
    request = RunRequest(run_id=str(uuid4()), thread_id=thread_id, assistant_id="plans", payload=payload)
    request = replace(request, limits=replace(request.limits, run_timeout=1000))
    run_id = f"run/{request.run_id}"
    async with Worker(client, task_queue="hasty"):
        handle = await client.start_workflow("Thread", ThreadState(), id=f"thread/{thread_id}", task_queue="hasty")
        await handle.signal("new_run", request)

        async def continued() -> bool:
            return await described(client, run_id) is not None and len(await chain(client, run_id)) > 1

        await eventually(continued, timeout=30)
        times = [
            history.events[0].workflow_execution_started_event_attributes.workflow_run_timeout.ToTimedelta()
            for history in await chain(client, run_id)
        ]
        await handle.signal("cancel_runs", Cancellation([request.run_id], "interrupted: enough"))
        found = await closed(client, run_id)

        async def over() -> bool:
            return f"`{request.run_id}` interrupted" in await details(client, f"thread/{thread_id}")

        await eventually(over)
    assert found.status is WorkflowExecutionStatus.CANCELED
    assert times == sorted(times, reverse=True)
    assert times[-1] < times[0] == timedelta(seconds=1000)
