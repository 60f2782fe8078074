"""Runs that other workflows send to threads, without the API."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.worker import Worker

from durathread.db.pool import open_pool
from durathread.graphs.registry import system_assistant_id
from durathread.runs.request import signal_of
from durathread.workflows.messages import Limits, RunRequest
from tests.db.support import admit, assistant, new_run
from tests.eventually import eventually
from tests.runs.support import entered, lines, log_of, start, statuses
from tests.stack import Stack
from tests.workflows.neighbour import Neighbour, send_run
from tests.workflows.support import closed, described, details


@pytest.fixture(scope="module")
async def beside(temporal: Client, server: Stack) -> AsyncIterator[str]:
    """A worker with a workflow of somebody else's, and ours, on a task queue of its own; that of the server's threads."""
    async with Worker(temporal, task_queue=f"beside-{uuid4()}", workflows=[Neighbour], activities=[send_run]) as worker:
        yield worker.task_queue


@pytest.fixture
def queue(server: Stack) -> str:
    """Where the server's threads live."""
    return server.environment["DURATHREAD_TASK_QUEUE"]


def request_of(thread_id: str, label: str, strategy: str = "enqueue", **payload: Any) -> RunRequest:
    do = payload.pop("do", {})
    return RunRequest(
        run_id=str(uuid4()),
        thread_id=thread_id,
        assistant_id="agent",
        strategy=strategy,
        payload={"input": {"log": [label], "do": do}, "if_not_exists": "create", **payload},
    )


async def send(temporal: Client, beside: str, request: RunRequest, queue: str | None = None) -> None:
    """Let the other workflow send a run: to a thread that is there, or to any thread of a task queue."""
    await temporal.execute_workflow(Neighbour.run, args=[request, queue], id=f"neighbour/{uuid4()}", task_queue=beside)


async def ends(client: LangGraphClient, request: RunRequest, status: str = "success") -> None:
    """Wait until a run has been admitted, and has ended."""

    async def ended() -> bool:
        try:
            return (await client.runs.get(request.thread_id, request.run_id))["status"] == status
        except NotFoundError:
            return False

    await eventually(ended, what=f"run is {status}")


async def refused(temporal: Client, request: RunRequest) -> None:
    """Wait until a thread has refused a run."""

    async def is_it() -> bool:
        return f"`{request.run_id}` refused" in await details(temporal, f"thread/{request.thread_id}")

    await eventually(is_it)


async def absent(client: LangGraphClient, request: RunRequest) -> None:
    with pytest.raises(NotFoundError):
        await client.runs.get(request.thread_id, request.run_id)


async def test_another_workflow_starts_a_thread_with_a_run(
    client: LangGraphClient, temporal: Client, thread_id: str, beside: str, queue: str
) -> None:
    request = request_of(thread_id, "r1", metadata={"team": "a"})
    await send(temporal, beside, request, queue)
    await ends(client, request)
    assert await log_of(client, thread_id) == ["r1", "a", "b", "c"]
    thread: Any = await client.threads.get(thread_id)
    assert (thread["status"], thread["metadata"]["team"]) == ("idle", "a")
    run: Any = await client.runs.get(thread_id, request.run_id)
    assert (run["multitask_strategy"], run["metadata"]["team"]) == ("enqueue", "a")


async def test_another_workflow_sends_a_run_to_a_thread_that_is_there(
    client: LangGraphClient, temporal: Client, thread_id: str, beside: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    first = await start(client, thread_id, "r1", do={"b": {"until": str(gate)}})
    request = request_of(thread_id, "r2")
    await send(temporal, beside, request)

    async def admitted() -> bool:
        return await statuses(client, thread_id) == ["running", "pending"]

    await eventually(admitted)
    gate.touch()
    await ends(client, request)
    assert (await client.runs.get(thread_id, first["run_id"]))["status"] == "success"
    assert await log_of(client, thread_id) == ["r1", "a", "b", "c", "r2", "a", "b", "c"]


async def test_a_run_without_a_thread_id_belongs_to_the_thread_that_is_signalled(
    client: LangGraphClient, temporal: Client, thread_id: str
) -> None:
    first = await start(client, thread_id, "r1")
    await client.runs.join(thread_id, first["run_id"])
    request = request_of(thread_id, "r2")
    await temporal.get_workflow_handle(f"thread/{thread_id}").signal("new_run", replace(request, thread_id=""))
    await ends(client, request)


async def test_a_thread_that_is_spelled_otherwise_is_not_a_second_workflow_for_the_same_thread(
    client: LangGraphClient, temporal: Client, thread_id: str, beside: str, queue: str
) -> None:
    request = request_of(thread_id.upper(), "r1")
    await send(temporal, beside, request, queue)
    await refused(temporal, request)
    await absent(client, request)


async def test_a_run_for_another_thread_than_the_one_that_is_signalled_is_refused(
    client: LangGraphClient, temporal: Client, thread_id: str
) -> None:
    """Else two workflows would execute runs of one thread."""
    first = await start(client, thread_id, "r1")
    await client.runs.join(thread_id, first["run_id"])
    request = request_of(str(uuid4()), "r2")
    await temporal.get_workflow_handle(f"thread/{thread_id}").signal("new_run", request)
    await refused(temporal, replace(request, thread_id=thread_id))
    await absent(client, request)
    with pytest.raises(NotFoundError):
        await client.threads.get(request.thread_id)


async def test_a_signal_that_interrupts_ends_what_works(
    client: LangGraphClient, temporal: Client, thread_id: str, beside: str, tmp_path: Path
) -> None:
    trace = tmp_path / "b"
    first = await start(client, thread_id, "r1", do={"b": {"trace": str(trace), "sleep": 30}})
    await entered(trace)
    stream = client.runs.join_stream(thread_id, first["run_id"])
    assert (await anext(stream)).event == "metadata"
    request = request_of(thread_id, "r2", "interrupt")
    await send(temporal, beside, request)
    assert [part.data for part in [part async for part in stream] if part.event == "end"] == [
        {"run_id": first["run_id"], "status": "interrupted"}
    ]
    await ends(client, request)
    assert await statuses(client, thread_id) == ["interrupted", "success"]
    assert await log_of(client, thread_id) == ["r1", "a", "r2", "a", "b", "c"]


async def test_a_signal_that_rolls_back_leaves_nothing_of_what_works(
    client: LangGraphClient, temporal: Client, thread_id: str, beside: str, tmp_path: Path
) -> None:
    trace = tmp_path / "b"
    await start(client, thread_id, "r1", do={"b": {"trace": str(trace), "sleep": 30}})
    await entered(trace)
    request = request_of(thread_id, "r2", "rollback")
    await send(temporal, beside, request)
    await ends(client, request)
    assert await statuses(client, thread_id) == ["success"]
    assert await log_of(client, thread_id) == ["r2", "a", "b", "c"]


async def test_a_signal_that_rejects_is_refused_by_a_busy_thread(
    client: LangGraphClient, temporal: Client, thread_id: str, beside: str, queue: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    first = await start(client, thread_id, "r1", do={"b": {"until": str(gate)}})
    request = request_of(thread_id, "r2", "reject")
    await send(temporal, beside, request, queue)
    await refused(temporal, request)
    await absent(client, request)
    gate.touch()
    await client.runs.join(thread_id, first["run_id"])
    # It stays refused, also when it comes again and the thread is idle.
    await send(temporal, beside, request)
    again = request_of(thread_id, "r3", "reject")
    await send(temporal, beside, again)
    await ends(client, again)
    await absent(client, request)
    assert await log_of(client, thread_id) == ["r1", "a", "b", "c", "r3", "a", "b", "c"]


INVALID: dict[str, dict[str, Any]] = {
    "a stream mode that is none": {"payload": {"stream_mode": "nonsense"}},
    "an assistant that is none": {"assistant_id": "nobody"},
    "a strategy that is none": {"strategy": "nonsense"},
    "a run id that is none": {"run_id": "not-a-uuid"},
    "a run id that is spelled otherwise": {"run_id": "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"},
    "a delay beyond all times": {"payload": {"after_seconds": 1e18}},
    "a context and a config at once": {"payload": {"context": {"a": 1}, "config": {"configurable": {"b": 1}}}},
}


@pytest.mark.parametrize("change", [pytest.param(change, id=name) for name, change in INVALID.items()])
async def test_a_run_that_is_not_valid_is_refused_and_its_thread_goes_on(
    client: LangGraphClient, temporal: Client, thread_id: str, beside: str, queue: str, change: dict[str, Any]
) -> None:
    request = request_of(thread_id, "bad")
    request = replace(request, **{**change, "payload": {**(request.payload or {}), **change.get("payload", {})}})
    await send(temporal, beside, request, queue)
    await refused(temporal, request)
    good = request_of(thread_id, "good")
    await send(temporal, beside, good)
    await ends(client, good)
    assert await statuses(client, thread_id) == ["success"]


async def test_a_signal_that_is_not_a_run_is_dropped_and_the_thread_goes_on(
    client: LangGraphClient, temporal: Client, thread_id: str
) -> None:
    first = await start(client, thread_id, "r1")
    await client.runs.join(thread_id, first["run_id"])
    handle = temporal.get_workflow_handle(f"thread/{thread_id}")
    for nonsense in ("nonsense", {"no": "run"}, {"run_id": 5}, None, [1]):
        await handle.signal("new_run", nonsense)
    for name in ("new_run", "cancel_runs", "no_such_signal"):
        await handle.signal(name)
        await handle.signal(name, None)
    good = request_of(thread_id, "good")
    await handle.signal("new_run", good)
    await ends(client, good)


async def test_the_same_run_sent_twice_runs_once(
    client: LangGraphClient, temporal: Client, thread_id: str, beside: str, queue: str, tmp_path: Path
) -> None:
    trace = tmp_path / "a"
    request = request_of(thread_id, "r1", do={"a": {"trace": str(trace)}})
    for _ in range(2):
        await send(temporal, beside, request, queue)
    await ends(client, request)
    await send(temporal, beside, request)
    last = request_of(thread_id, "r2")
    await send(temporal, beside, last)
    await ends(client, last)
    assert len(lines(trace)) == 1
    assert await log_of(client, thread_id) == ["r1", "a", "b", "c", "r2", "a", "b", "c"]


async def test_runs_of_the_api_and_of_signals_share_one_order(
    client: LangGraphClient, temporal: Client, thread_id: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    await start(client, thread_id, "r0", do={"a": {"until": str(gate)}})
    handle = temporal.get_workflow_handle(f"thread/{thread_id}")

    async def admitted(count: int) -> None:
        async def are() -> bool:
            return len(await client.runs.list(thread_id, limit=100)) == count

        await eventually(are)

    for n in (1, 3, 5):
        await handle.signal("new_run", request_of(thread_id, f"r{n}"))
        await admitted(n + 1)
        await start(client, thread_id, f"r{n + 1}")
    gate.touch()
    last = await start(client, thread_id, "r7")
    await client.runs.join(thread_id, last["run_id"])
    log = await log_of(client, thread_id)
    assert [entry for entry in log if entry.startswith("r")] == [f"r{n}" for n in range(8)]


async def test_an_interrupt_that_a_sweep_sends_stops_what_works(
    client: LangGraphClient, temporal: Client, thread_id: str, database: str, tmp_path: Path
) -> None:
    """The API died between the admission and the signal: nobody remembers which runs it ended."""
    trace = tmp_path / "b"
    first = await start(client, thread_id, "r1", do={"b": {"trace": str(trace), "sleep": 30}})
    queued = await start(client, thread_id, "q")
    await entered(trace)
    who = assistant(assistant_id=system_assistant_id("agent"))
    kwargs = {"input": {"log": ["r2"], "do": {}}, "stream_mode": ["values"]}
    async with open_pool(database, size=2) as pool:
        admitted = await admit(pool, new_run(UUID(thread_id), "interrupt", assistant=who, kwargs=kwargs))
    request = signal_of(admitted.run, (), limits=Limits(), nodes=[])
    await temporal.get_workflow_handle(f"thread/{thread_id}").signal("new_run", request)
    await ends(client, request)
    found = await closed(temporal, f"run/{first['run_id']}")
    assert found.status is WorkflowExecutionStatus.CANCELED
    assert await described(temporal, f"run/{queued['run_id']}") is None
    assert await statuses(client, thread_id) == ["interrupted", "interrupted", "success"]
    assert await log_of(client, thread_id) == ["r1", "a", "r2", "a", "b", "c"]
