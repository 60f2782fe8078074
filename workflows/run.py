"""The workflow of a run: one activity a step, until a step says that the run is over."""

import asyncio
import builtins
from dataclasses import replace
from datetime import timedelta
from typing import NoReturn

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError, is_cancelled_exception

from durathread.temporal.connection import RUN_STATUS
from durathread.workflows import priorities
from durathread.workflows.messages import (
    HANDED_BACK,
    RUN,
    STEP,
    SUPERSEDED,
    UNAVAILABLE,
    UNENDED,
    Ran,
    RunOutcome,
    RunRequest,
    StepInput,
    StepOutcome,
)

# Waits between tries while the database is away, in seconds.
FIRST_WAIT = 0.5
LONGEST_WAIT = 10.0

REPEATING = RetryPolicy(
    initial_interval=timedelta(milliseconds=50), backoff_coefficient=2, maximum_interval=timedelta(seconds=1)
)

# Supersteps that are listed for those who look at a run; its activities list them all.
LISTED = 100

# What Temporal puts between its own words and the reason of another workflow that cancels.
FORWARDED = " with reason: "


@workflow.defn(name=RUN, sandboxed=False)
class Run:
    """Holds no graph code and no state but counters: what a run knows is in its checkpoints."""

    def __init__(self) -> None:
        """Begin before the first superstep."""
        self._ran: list[Ran] = []

    @workflow.run
    async def run(self, request: RunRequest) -> RunOutcome:
        """Step through a run.

        A cancellation closes the workflow as cancelled: after the step has stopped, or `cancel_grace` later.
        """
        try:
            outcome = await self._steps(request)
        except workflow.ContinueAsNewError:
            raise
        except (Exception, asyncio.CancelledError) as error:
            if is_cancelled_exception(error):
                self._show("rollback" if _rolled_back(workflow.cancellation_reason() or "") else "interrupted")
            else:
                self._show("error")
            raise
        # Temporal says that a run works, and that it is through: each upsert is a write to its visibility store.
        if outcome.status != "success" or not request.terse:
            self._show(outcome.status)
        return outcome

    async def _steps(self, request: RunRequest) -> RunOutcome:
        outcome = StepOutcome("continue", request.nodes, request.limit, counts=request.counts, at=request.at)
        step, calls, wait, again = request.step, request.calls, FIRST_WAIT, False
        while True:
            calls += 1
            given = StepInput(
                request.run_id,
                step,
                calls,
                cancel_grace=request.limits.cancel_grace,
                heartbeat_timeout=request.limits.heartbeat_timeout,
                whole=request.whole,
                limit=outcome.limit,
                attempts=request.limits.step_attempts,
                counts=outcome.counts,
                again=again,
                at=outcome.at,
            )
            try:
                done = await self._step(request, given, outcome.nodes)
            except ActivityError as error:
                if not await self._worth_repeating(error, wait):
                    raise
                wait, again = min(wait * 2, LONGEST_WAIT), again or _is_unended(error)
                continue
            self._list(done.ran)
            if done.status == "superseded":
                await self._await_cancellation(request)
            if done.status != "continue":
                return RunOutcome(request.run_id, done.status)
            outcome, step, wait, again = done, step + 1, FIRST_WAIT, False
            # A run may take more steps than a history has room for.
            if workflow.info().is_continue_as_new_suggested() and workflow.patched("long"):
                left = replace(request, nodes=done.nodes, limit=done.limit, counts=done.counts, at=done.at)
                self._continue(replace(left, calls=calls, step=step))

    async def _step(self, request: RunRequest, given: StepInput, nodes: list[str]) -> StepOutcome:
        handle = workflow.start_activity(
            STEP,
            given,
            result_type=StepOutcome,
            start_to_close_timeout=timedelta(seconds=request.limits.run_timeout),
            heartbeat_timeout=timedelta(seconds=request.limits.heartbeat_timeout),
            # Temporal repeats what a worker has not finished, without a limit: it cannot know whether one has died. The step
            # counts deaths. Anything else that is worth repeating comes back here.
            retry_policy=REPEATING,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=", ".join(nodes)[:200] or None,
            priority=priorities.of_step(request),
        )
        try:
            await workflow.wait_condition(handle.done)
        except asyncio.CancelledError:
            # A step may have ended in this very moment: cancelled before it takes notice, its failure is heard by nobody.
            await asyncio.sleep(0)
            handle.cancel()
            await self._stopped(handle, request.limits.cancel_grace)
            raise
        # A cancellation that came with the step's end raised nothing; see temporalio's activation order.
        if workflow.cancellation_reason() is not None:
            _hear(handle)
            raise asyncio.CancelledError
        return handle.result()

    def _continue(self, request: RunRequest) -> NoReturn:
        """Go on with a history of its own, in what is left of the run's time."""
        lived = (workflow.now() - workflow.info().start_time).total_seconds()
        left = max(request.limits.run_timeout - request.spent - lived, 1)
        workflow.continue_as_new(replace(request, spent=request.spent + lived), run_timeout=timedelta(seconds=left))

    async def _stopped(self, handle: "workflow.ActivityHandle[StepOutcome]", grace: float) -> None:
        try:
            await workflow.wait_condition(handle.done, timeout=grace)
        except builtins.TimeoutError:
            workflow.logger.warning("The step did not stop in time; the fence keeps it from writing")
            return
        _hear(handle)

    async def _worth_repeating(self, error: ActivityError, wait: float) -> bool:
        cause = error.cause
        if isinstance(cause, ApplicationError) and cause.type == HANDED_BACK:
            return True
        if isinstance(cause, ApplicationError) and cause.type == UNAVAILABLE:
            await workflow.sleep(wait)
            return True
        if isinstance(cause, TimeoutError):
            # Of a step that was scheduled by a version that had Temporal count.
            raise ApplicationError(
                "A step of this run took its worker down too often.", type="RuntimeError", non_retryable=True
            ) from error
        return False

    async def _await_cancellation(self, request: RunRequest) -> None:
        """Whoever ended the run in the database cancels this workflow next: let that show as its end."""
        try:
            await workflow.wait_condition(lambda: False, timeout=max(request.limits.cancel_grace, 1))
        except builtins.TimeoutError:
            workflow.logger.warning("%s, but nobody cancelled the workflow", SUPERSEDED)

    def _list(self, ran: list[Ran]) -> None:
        """Show in the UI what has run: supersteps that are short share an activity."""
        self._ran = [*self._ran, *ran][-LISTED:]
        workflow.set_current_details("\n".join(f"- {each.nodes} ({each.seconds:.3f} s)" for each in self._ran))

    def _show(self, status: str) -> None:
        workflow.upsert_search_attributes([RUN_STATUS.value_set(status)])


def _hear(handle: "workflow.ActivityHandle[StepOutcome]") -> None:
    """Take notice of how a step has ended, so that nobody reports its failure as lost."""
    if not handle.cancelled():
        handle.exception()


def _is_unended(error: ActivityError) -> bool:
    return isinstance(error.cause, ApplicationError) and UNENDED in error.cause.details


def _rolled_back(reason: str) -> bool:
    """Say what has become of a cancelled run: the canceller says it in the first word of its reason."""
    _, _, given = reason.rpartition(FORWARDED)
    return given.startswith("rollback:")
