"""What a deployment starts in Temporal carries its name, and a worker of another deployment hands it back.

Two deployments on one task queue are refused when they start (`ownership`); a header guards what happens all the same: a
queue that was taken over too early, or a worker that has not been restarted since.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, NoReturn
from uuid import UUID

import structlog
import temporalio.client
import temporalio.worker
from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.client import ScheduleActionStartWorkflow, ScheduleUpdate
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from durathread.workflows.messages import CRON, EXPIRE, RUN, STEP, SWEEP, THREAD, UNAVAILABLE, WEBHOOK

log = structlog.get_logger()

HEADER = "durathread-deployment"
OURS = frozenset({THREAD, RUN, SWEEP, WEBHOOK, CRON, EXPIRE})
# When a task that belongs to others is offered again.
AGAIN = timedelta(seconds=1)

Headers = Mapping[str, Payload]


class Belonging(temporalio.client.Interceptor, temporalio.worker.Interceptor):
    """Names the deployment on our workflows, and hands back the activities of others."""

    def __init__(self, deployment: Callable[[], UUID | None]) -> None:
        """Take who we are, as soon as that is known."""
        self.deployment = deployment

    def named(self, headers: Headers) -> Headers:
        """Add our name to headers that have none."""
        own = self.deployment()
        if own is None:
            return headers
        # Not by the client's converter: a name that others cannot read would be none.
        return {HEADER: Payload(metadata={"encoding": b"binary/plain"}, data=str(own).encode()), **headers}

    def intercept_client(self, next: temporalio.client.OutboundInterceptor) -> temporalio.client.OutboundInterceptor:
        """Name the deployment on what the client starts."""
        return _Starting(next, self)

    def intercept_activity(
        self, next: temporalio.worker.ActivityInboundInterceptor
    ) -> temporalio.worker.ActivityInboundInterceptor:
        """Hand back activities of other deployments."""
        return _Taking(next, self)

    def workflow_interceptor_class(
        self, input: temporalio.worker.WorkflowInterceptorClassInput
    ) -> type[temporalio.worker.WorkflowInboundInterceptor]:
        """Pass the name on from workflows to what they start."""
        return _Passing


class _Starting(temporalio.client.OutboundInterceptor):
    def __init__(self, next: temporalio.client.OutboundInterceptor, belonging: Belonging) -> None:
        super().__init__(next)
        self._belonging = belonging

    async def start_workflow(
        self, input: temporalio.client.StartWorkflowInput
    ) -> temporalio.client.WorkflowHandle[Any, Any]:
        if input.workflow in OURS:
            input.headers = self._belonging.named(input.headers)
        return await super().start_workflow(input)

    async def create_schedule(self, input: temporalio.client.CreateScheduleInput) -> temporalio.client.ScheduleHandle:
        self._name(input.schedule)
        return await super().create_schedule(input)

    async def update_schedule(self, input: temporalio.client.UpdateScheduleInput) -> None:
        updater = input.updater

        async def naming(given: temporalio.client.ScheduleUpdateInput) -> ScheduleUpdate | None:
            update = updater(given)
            found = await update if inspect.isawaitable(update) else update
            if found is not None:
                self._name(found.schedule)
            return found

        await super().update_schedule(dataclasses.replace(input, updater=naming))

    def _name(self, schedule: temporalio.client.Schedule) -> None:
        action = schedule.action
        if isinstance(action, ScheduleActionStartWorkflow) and action.workflow in OURS:
            action.headers = self._belonging.named(action.headers or {})


class _Passing(temporalio.worker.WorkflowInboundInterceptor):
    def __init__(self, next: temporalio.worker.WorkflowInboundInterceptor) -> None:
        super().__init__(next)
        self._headers: Headers = {}

    def init(self, outbound: temporalio.worker.WorkflowOutboundInterceptor) -> None:
        self.next.init(_Handing(outbound, self))

    async def execute_workflow(self, input: temporalio.worker.ExecuteWorkflowInput) -> Any:
        self._headers = {name: value for name, value in input.headers.items() if name == HEADER}
        return await super().execute_workflow(input)

    def passed(self, headers: Headers) -> Headers:
        """Add the name that the workflow carries."""
        return {**self._headers, **headers}


class _Handing(temporalio.worker.WorkflowOutboundInterceptor):
    def __init__(self, next: temporalio.worker.WorkflowOutboundInterceptor, inbound: _Passing) -> None:
        super().__init__(next)
        self._inbound = inbound

    def start_activity(self, input: temporalio.worker.StartActivityInput) -> Any:
        input.headers = self._inbound.passed(input.headers)
        return super().start_activity(input)

    async def start_child_workflow(self, input: temporalio.worker.StartChildWorkflowInput) -> Any:
        input.headers = self._inbound.passed(input.headers)
        return await super().start_child_workflow(input)

    def continue_as_new(self, input: temporalio.worker.ContinueAsNewInput) -> NoReturn:
        input.headers = self._inbound.passed(input.headers)
        super().continue_as_new(input)


class _Taking(temporalio.worker.ActivityInboundInterceptor):
    def __init__(self, next: temporalio.worker.ActivityInboundInterceptor, belonging: Belonging) -> None:
        super().__init__(next)
        self._belonging = belonging

    async def execute_activity(self, input: temporalio.worker.ExecuteActivityInput) -> Any:
        own, header = self._belonging.deployment(), input.headers.get(HEADER)
        whose = header.data.decode() if header else None
        if own is not None and whose is not None and whose != str(own):
            self._hand_back(whose, own)
        return await super().execute_activity(input)

    def _hand_back(self, whose: str, own: UUID) -> NoReturn:
        info = activity.info()
        log.error(
            "A task of another deployment came to this worker: it goes back. Two databases share a task queue",
            activity=info.activity_type,
            workflow=info.workflow_id,
            task_queue=info.task_queue,
            deployment=whose,
            own_deployment=str(own),
        )
        raise ApplicationError(
            f"The task belongs to deployment {whose}, and the worker to {own}.",
            type=UNAVAILABLE,
            # A run repeats its step itself, however often; older ones let Temporal do it a few times only.
            non_retryable=info.activity_type == STEP,
            next_retry_delay=AGAIN,
            category=ApplicationErrorCategory.BENIGN,
        )
