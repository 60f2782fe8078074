"""The workflow of a thread: its queue, and one run at a time."""

import asyncio
import builtins
import contextlib
import sys
from dataclasses import replace
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    ChildWorkflowError,
    TerminatedError,
    TimeoutError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)

from durathread.temporal.connection import ASSISTANT_ID, GRAPH_ID, THREAD_ID, run_workflow_id
from durathread.workflows import priorities
from durathread.workflows.messages import (
    ADMIT,
    AWAIT_RUN,
    FAILED,
    FORGET,
    HELD,
    RUN,
    SETTLE,
    THREAD,
    Cancellation,
    Closing,
    Ended,
    RunOutcome,
    RunRequest,
    Settlement,
    ThreadState,
)

REMEMBERED = 200
SHOWN = 10
# How long the outcome of a stateless run stays readable for those who wait for it, in seconds.
LINGER = 60

BOOKKEEPING = RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=10))

Child = workflow.ChildWorkflowHandle["object", RunOutcome]


@workflow.defn(name=THREAD, sandboxed=False)
class Thread:
    """Starts the runs of a thread in order of admission, and stops those that were ended.

    The handlers only change state; the main loop acts. What a run's end means for the database has been written before a
    signal arrives here (by the API), or is written by `settle`.
    """

    @workflow.init
    def __init__(self, state: ThreadState | None = None) -> None:
        """Take over the state of the workflow run before."""
        self._state = state or ThreadState()
        self._thread_id = workflow.info().workflow_id.removeprefix("thread/")
        self._stops: dict[str, str] = {}
        self._settling: set[asyncio.Task[None]] = set()
        self._describe()

    @workflow.signal(description="Queue a run. Sending the same run again changes nothing.")
    def new_run(self, request: RunRequest | None = None) -> None:
        """Queue a run, and stop those that it supersedes."""
        if request is None:
            workflow.logger.warning("A signal without a run was ignored")
            return
        if request.thread_id not in ("", self._thread_id):
            # Two workflows would execute runs of one thread.
            workflow.logger.warning("A run for another thread was refused", extra={"run_id": request.run_id})
            self._end(request.run_id, "refused")
            self._describe()
            return
        status = "rollback" if request.strategy == "rollback" else "interrupted"
        # Of a run that has yet to be admitted, only its admission says what it supersedes.
        if request.seq or (request.supersedes and not workflow.patched("unadmitted")):
            for run_id in (*request.supersedes, *self._superseded_by(request)):
                self._stop(run_id, f"{status}: superseded by run {request.run_id}")
        # The API repeats a signal whose answer it lost, so a run may come twice.
        if self._known(request.run_id):
            return
        # A run that is sent is a sign that the thread is there, even if one of this id was deleted before.
        self._state.closed = False
        if request.seq:
            self._state.queue.append(request)
            self._state.queue.sort(key=lambda r: (r.created, r.seq))
        else:
            self._state.arrivals.append(request)
        self._describe()

    @workflow.signal(description="Stop runs that have been ended in the database.")
    def cancel_runs(self, cancellation: Cancellation | None = None) -> None:
        """Stop runs, queued or running."""
        if cancellation is None:
            workflow.logger.warning("A signal without a cancellation was ignored")
            return
        for run_id in cancellation.run_ids:
            self._stop(run_id, cancellation.reason)
        self._describe()

    @workflow.signal(description="End this workflow: its thread has been deleted.")
    def close(self, closing: Closing | None = None) -> None:
        """Stop what the thread had when it was deleted; there may be another of its id by now."""
        upto = closing.upto if closing else sys.maxsize
        for request in list(self._state.queue):
            if request.seq <= upto:
                self._stop(request.run_id, "deleted")
        if self._state.active and self._state.active.seq <= upto:
            self._stop(self._state.active.run_id, "rollback: the thread was deleted")
        self._state.closed = not self._state.queue

    @workflow.query(description="The ids of the queued runs, next first.")
    def queue(self) -> list[str]:
        """Name the queued runs."""
        return [request.run_id for request in self._state.queue]

    @workflow.query(name=HELD, description="The ids of the runs that will still be dealt with here.")
    def held(self) -> list[str]:
        """Name the runs that are known and have not ended."""
        active = [self._state.active] if self._state.active else []
        return [request.run_id for request in (*active, *self._state.arrivals, *self._state.queue)]

    @workflow.run
    async def run(self, state: ThreadState | None = None) -> None:
        """Run what is queued, one after the other, for as long as the thread exists."""
        admissions = asyncio.create_task(self._admissions())
        while True:
            if request := await self._next():
                await self._execute(request)
            elif self._state.closed:
                await self._quiet()
                # Another run may have come meanwhile.
                if self._state.closed:
                    break
            if workflow.info().is_continue_as_new_suggested():
                await self._quiet()
                workflow.continue_as_new(self._state)
        admissions.cancel()

    async def _next(self) -> RunRequest | None:
        """Wait for a run that is due and take it from the queue; None when there is something else to look at."""
        if not self._state.queue and not self._state.closed:
            await workflow.wait_condition(lambda: bool(self._state.queue) or self._state.closed)
        now = workflow.now().timestamp()
        due = next((request for request in self._state.queue if request.due <= now), None)
        if due is not None:
            self._state.queue.remove(due)
            return due
        if self._state.queue:
            # Only delayed runs: until the first is due, or another comes.
            waiting = list(self._state.queue)
            first = min(request.due for request in waiting)
            try:
                await workflow.wait_condition(
                    lambda: self._state.queue != waiting or self._state.closed, timeout=max(first - now, 0.001)
                )
            except builtins.TimeoutError:
                return None
        return None

    async def _execute(self, request: RunRequest) -> None:
        self._state.active = request
        self._describe()
        status, settlement = await self._outcome(request)
        self._state.active = None
        recorded = self._stops.pop(request.run_id, None) is not None
        self._end(request.run_id, status)
        self._describe()
        if settlement is not None:
            task = asyncio.create_task(self._settle(settlement))
            if recorded:
                # The run's end is in the database: the next one need not wait for the thread's values to follow.
                self._settling.add(task)
                task.add_done_callback(self._settling.discard)
            else:
                await task
        if request.temporary:
            await self._forget(request)

    async def _outcome(self, request: RunRequest) -> tuple[str, Settlement | None]:
        """Execute a run; return its status, and what is left to settle if it did not write its own end."""
        try:
            child = await self._start(request)
            await workflow.wait_condition(lambda: child.done() or request.run_id in self._stops)
            if not child.done():
                if workflow.patched("cancel-by-name"):
                    await self._cancel(request)
                else:
                    child.cancel(self._stops[request.run_id])
            await workflow.wait_condition(child.done)
            outcome = child.result()
        except WorkflowAlreadyStartedError:
            return "unknown", await self._attach(request)
        except (ChildWorkflowError, asyncio.CancelledError) as error:
            settlement = self._failure(request, error)
            return settlement.status, settlement
        if outcome.status == "superseded":
            return "interrupted", Settlement(request.run_id, "interrupted")
        return outcome.status, None

    async def _start(self, request: RunRequest) -> Child:
        pairs = [
            SearchAttributePair(THREAD_ID, request.thread_id),
            SearchAttributePair(ASSISTANT_ID, request.assistant_id),
            SearchAttributePair(GRAPH_ID, request.graph_id),
        ]
        return await workflow.start_child_workflow(
            RUN,
            replace(request, terse=True),
            result_type=RunOutcome,
            id=run_workflow_id(request.run_id),
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            cancellation_type=workflow.ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
            run_timeout=timedelta(seconds=request.limits.run_timeout),
            search_attributes=TypedSearchAttributes(pairs),
            static_summary=f"{request.graph_id} · {request.strategy}",
            priority=priorities.of_run(request),
        )

    async def _cancel(self, request: RunRequest) -> None:
        """Cancel a run by its name: a child's own handle knows only its first life, before it continued as new."""
        run = workflow.get_external_workflow_handle(run_workflow_id(request.run_id))
        # It may have closed.
        with contextlib.suppress(ApplicationError):
            await run.cancel(reason=self._stops[request.run_id])

    def _failure(self, request: RunRequest, error: BaseException) -> Settlement:
        cause = error.cause if isinstance(error, ChildWorkflowError) else error
        if is_cancelled_exception(error):
            return Settlement(request.run_id, "interrupted", "UserInterrupt", "cancelled in Temporal")
        if isinstance(cause, TimeoutError):
            return Settlement(request.run_id, "timeout", "TimeoutError", "")
        if isinstance(cause, TerminatedError):
            return Settlement(request.run_id, "error", "TerminatedError", "The run's workflow was terminated.")
        if isinstance(cause, ActivityError):
            cause = cause.cause
        if isinstance(cause, ApplicationError) and cause.type == FAILED and len(cause.details) == 2:
            name, message = (str(detail) for detail in cause.details)
            return Settlement(request.run_id, "error", name, message, logged=True)
        if isinstance(cause, ApplicationError) and cause.type == "RuntimeError":
            return Settlement(request.run_id, "error", "RuntimeError", cause.message)
        workflow.logger.error("A run failed", extra={"run_id": request.run_id, "cause": repr(cause)})
        return Settlement(request.run_id, "error", "InternalError", "An internal error occurred")

    async def _attach(self, request: RunRequest) -> Settlement:
        """A run of that id was started before: by a workflow of this thread that was lost. Wait for it."""
        waiting = workflow.start_activity(
            AWAIT_RUN,
            request.run_id,
            start_to_close_timeout=timedelta(seconds=request.limits.run_timeout),
            heartbeat_timeout=timedelta(seconds=10),
            retry_policy=BOOKKEEPING,
        )
        await workflow.wait_condition(lambda: waiting.done() or request.run_id in self._stops)
        if not waiting.done():
            await self._cancel(request)
        try:
            await waiting
        except ActivityError as error:
            workflow.logger.error("A run could not be followed", extra={"run_id": request.run_id, "cause": repr(error)})
        # Changes nothing if the run has written its own end.
        return Settlement(request.run_id, "error", "RuntimeError", "The run's workflow ended without an outcome.")

    async def _admissions(self) -> None:
        """Admit runs that did not come through the API, as they arrive."""
        while True:
            await workflow.wait_condition(lambda: bool(self._state.arrivals))
            request = self._state.arrivals[0]
            if not request.thread_id:
                request = replace(request, thread_id=self._thread_id)
            try:
                admitted = await workflow.execute_activity(
                    ADMIT,
                    request,
                    result_type=RunRequest,
                    start_to_close_timeout=timedelta(seconds=30),
                    retry_policy=BOOKKEEPING,
                    priority=priorities.SOON_OVER,
                )
            except ActivityError as error:
                workflow.logger.warning(
                    "A run was refused", extra={"run_id": request.run_id, "cause": repr(error.cause)}
                )
                admitted = None
            self._state.arrivals.pop(0)
            if admitted is None:
                self._end(request.run_id, "refused")
            else:
                self.new_run(admitted)
            self._describe()

    async def _settle(self, settlement: Settlement) -> None:
        await workflow.execute_activity(
            SETTLE,
            replace(settlement, thread_id=self._thread_id),
            start_to_close_timeout=timedelta(seconds=60),
            retry_policy=BOOKKEEPING,
            priority=priorities.SOON_OVER,
        )

    async def _forget(self, request: RunRequest) -> None:
        await workflow.sleep(LINGER, summary="until the outcome has been read")
        await workflow.execute_activity(
            FORGET, request.thread_id, start_to_close_timeout=timedelta(seconds=60), retry_policy=BOOKKEEPING
        )
        self._state.closed = True

    async def _quiet(self) -> None:
        await workflow.wait_condition(
            lambda: not self._settling and not self._state.arrivals and workflow.all_handlers_finished()
        )

    def _superseded_by(self, request: RunRequest) -> list[str]:
        """Name the runs here that were in flight when a run was admitted; one that a sweep sends names none itself."""
        if request.strategy not in ("interrupt", "rollback"):
            return []
        active = [self._state.active] if self._state.active else []
        return [other.run_id for other in (*active, *self._state.queue) if other.seq < request.seq]

    def _known(self, run_id: str) -> bool:
        active = self._state.active
        return (
            (active is not None and active.run_id == run_id)
            or any(request.run_id == run_id for request in (*self._state.arrivals, *self._state.queue))
            or any(ended.run_id == run_id for ended in self._state.ended)
        )

    def _stop(self, run_id: str, reason: str) -> None:
        active = self._state.active
        if active is not None and active.run_id == run_id:
            self._stops.setdefault(run_id, reason)
            return
        self._state.queue = [request for request in self._state.queue if request.run_id != run_id]
        # Also for a run that is not queued: its own signal may be on its way.
        self._end(run_id, reason.partition(":")[0])

    def _end(self, run_id: str, status: str) -> None:
        if any(ended.run_id == run_id for ended in self._state.ended):
            return
        self._state.ended.append(Ended(run_id, status))
        del self._state.ended[:-REMEMBERED]

    def _describe(self) -> None:
        active, lines = self._state.active, list[str]()
        if active is not None:
            lines.append(f"**Running** `{active.run_id}` ({active.graph_id} · {active.strategy})\n")
        if self._state.queue:
            lines.append("**Queued**\n")
            lines += [f"- `{request.run_id}` ({request.strategy})" for request in self._state.queue[:SHOWN]]
        if self._state.ended:
            lines.append("\n**Ended**\n")
            lines += [f"- `{ended.run_id}` {ended.status}" for ended in reversed(self._state.ended[-SHOWN:])]
        workflow.set_current_details("\n".join(lines) or "No run yet.")
