"""The workflow of a run, with a step that does as it is told."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError
from temporalio.worker import (
    Interceptor,
    Replayer,
    StartActivityInput,
    Worker,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)
from temporalio.workflow import ActivityHandle

from durathread.workflows.messages import RUN, STEP, RunRequest, StepInput, StepOutcome
from durathread.workflows.run import Run
from tests.eventually import eventually


class Keeping(Interceptor):
    """Keeps the handles of the activities that workflows start."""

    def __init__(self) -> None:
        self.handles: list[ActivityHandle[Any]] = []

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        kept = self.handles

        class Outbound(WorkflowOutboundInterceptor):
            def start_activity(self, input: StartActivityInput) -> ActivityHandle[Any]:
                kept.append(super().start_activity(input))
                return kept[-1]

        class Inbound(WorkflowInboundInterceptor):
            def init(self, outbound: WorkflowOutboundInterceptor) -> None:
                super().init(Outbound(outbound))

        return Inbound


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_a_step_that_fails_as_its_run_is_cancelled_is_heard(temporal: Client, cancelled_first: bool) -> None:
    begun, fail = asyncio.Event(), asyncio.Event()

    @activity.defn(name=STEP)
    async def step(_: StepInput) -> StepOutcome:
        begun.set()
        await fail.wait()
        raise ApplicationError("The step has failed", non_retryable=True)

    queue, keeping = f"run-{uuid4()}", Keeping()
    request = RunRequest(run_id=queue, thread_id=str(uuid4()), assistant_id="agent")
    client = await Client.connect(temporal.service_client.config.target_host)
    async with Worker(client, task_queue=queue, activities=[step]):
        async with Worker(client, task_queue=queue, workflows=[Run], max_cached_workflows=0):
            handle = await client.start_workflow(RUN, request, id=queue, task_queue=queue)
            await begun.wait()

        async def failed() -> bool:
            events = handle.fetch_history_events()
            return any([event.HasField("activity_task_failed_event_attributes") async for event in events])

        # Both come to the workflow at once.
        if cancelled_first:
            await handle.cancel()
        fail.set()
        await eventually(failed)
        if not cancelled_first:
            await handle.cancel()
        async with Worker(client, task_queue=queue, workflows=[Run], interceptors=[keeping]):
            with pytest.raises(WorkflowFailureError) as raised:
                await handle.result()
    assert isinstance(raised.value.cause, CancelledError)
    [kept] = keeping.handles
    assert isinstance(kept.exception(), ActivityError)
    await Replayer(workflows=[Run]).replay_workflow(await handle.fetch_history())
