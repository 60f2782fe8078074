"""What Temporal is told, and a Temporal that is busy."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import (
    Client,
    Interceptor,
    OutboundInterceptor,
    SignalWorkflowInput,
    StartWorkflowInput,
    WorkflowHandle,
)
from temporalio.service import RPCError, RPCStatusCode

from durathread.errors import Unavailable
from durathread.runs import signals
from durathread.temporal import connection
from durathread.temporal.connection import thread_workflow_id
from durathread.workflows.messages import RunRequest


class Busy(Interceptor, OutboundInterceptor):
    """Answers as Temporal does while a workflow is busy, so many times."""

    def __init__(self) -> None:
        self.times = 0

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        self.next = next
        return self

    def _answer(self) -> None:
        if self.times:
            self.times -= 1
            raise RPCError("Workflow is busy.", RPCStatusCode.RESOURCE_EXHAUSTED, b"")

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        self._answer()
        return await super().start_workflow(input)

    async def signal_workflow(self, input: SignalWorkflowInput) -> None:
        self._answer()
        await super().signal_workflow(input)


@pytest.fixture
def busy() -> Busy:
    return Busy()


@pytest.fixture
async def client(temporal: Client, busy: Busy) -> Client:
    """A client of a Temporal that is busy as often as it is told to be."""
    return await Client.connect(temporal.service_client.config.target_host, interceptors=[busy])


async def test_what_is_told_to_a_workflow_that_is_busy_is_told_again(client: Client, busy: Busy) -> None:
    thread_id, queue = uuid4(), f"busy-{uuid4()}"
    request = RunRequest(run_id=str(uuid4()), thread_id=str(thread_id), assistant_id="agent")
    busy.times = 2
    await signals.send(client, request, task_queue=queue)
    busy.times = 2
    await signals.close(client, thread_id, upto=1)
    assert busy.times == 0
    handle = client.get_workflow_handle(thread_workflow_id(thread_id))
    events = [event async for event in handle.fetch_history_events(rpc_timeout=timedelta(seconds=10))]
    told = [event.workflow_execution_signaled_event_attributes.signal_name for event in events]
    assert [name for name in told if name] == ["new_run", "close"]
    await handle.terminate()


async def test_a_temporal_that_stays_busy_is_not_said_to_be_away(
    client: Client, busy: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BUSY_FOR", 0.2)
    busy.times = 1000
    request = RunRequest(run_id=str(uuid4()), thread_id=str(uuid4()), assistant_id="agent")
    with pytest.raises(Unavailable, match=r"^The run cannot be started: Temporal is busy; try again\.$"):
        await signals.send(client, request, task_queue="anywhere")
