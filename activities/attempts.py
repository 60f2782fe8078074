"""What goes around every attempt at an activity of ours: its companion is told, and its end is the one that Temporal knows."""

import asyncio
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from temporalio import activity
from temporalio.client import AsyncActivityCancelledError, AsyncActivityHandle, Client
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from durathread.activities.resources import Resources
from durathread.companion.spawn import Companions
from durathread.steps.attempt import Attempt, Ending, attempt_here

log = structlog.get_logger()

# An attempt that was started longer ago than this may be over. In seconds.
OLD = 1.0
BEAT_RETRY = 0.5
BEAT_TIMEOUT = timedelta(seconds=5)
LOST = "Lost"
# How often the SDK sends a heartbeat beside the companion, at most, in seconds.
SELDOM = 5.0


class Attempts(Interceptor):
    """Watches over the attempts at activities of ours; those of others on the same worker are left alone."""

    def __init__(self, resources: Resources, names: Collection[str]) -> None:
        """Name our activities, and take what the worker will have opened."""
        self._names = frozenset(names)
        self._resources = resources
        self.grace = resources.settings.shutdown_grace
        self.every = resources.settings.heartbeat_interval

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Stand around an activity."""
        return _Inbound(next, self)

    def is_ours(self, info: activity.Info) -> bool:
        """Say whether an activity is one of ours."""
        return info.activity_type in self._names

    def is_old(self, info: activity.Info) -> bool:
        """Say whether an attempt may have waited here for long, unseen: this process, or its loop, did not go on."""
        age = (datetime.now(UTC) - info.started_time).total_seconds()
        return age > OLD or self._resources.turns.stalled_lately()

    @property
    def companions(self) -> Companions | None:
        """The companion of this process."""
        return self._resources.companions


class _Inbound(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, attempts: Attempts) -> None:
        super().__init__(next)
        self._attempts = attempts

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        info = activity.info()
        if not self._attempts.is_ours(info):
            return await self.next.execute_activity(input)
        attempt = Attempt(info)
        if self._attempts.is_old(info) and not await is_current(attempt):
            raise _lost()
        async with self._watched(attempt):
            inner = await self._carried_out(attempt, input)
        if attempt.forgotten and attempt.ending != "lost":
            await _report(attempt, inner)
        if attempt.ending == "lost" and inner.cancelled():
            raise _lost()
        return inner.result()

    @asynccontextmanager
    async def _watched(self, attempt: Attempt) -> AsyncGenerator[None]:
        info, own = attempt.info, self._attempts.companions
        timeout = info.heartbeat_timeout.total_seconds() if info.heartbeat_timeout else 0.0
        if own:
            own.begin(info.task_token, namespace=info.namespace, timeout=timeout, hear=attempt.hear)
        feeding = asyncio.create_task(_feed(attempt, timeout, every=self._attempts.every)) if timeout else None
        try:
            yield
        finally:
            if feeding:
                feeding.cancel()
            if own:
                own.end(info.task_token)

    async def _carried_out(self, attempt: Attempt, input: ExecuteActivityInput) -> "asyncio.Task[Any]":
        """Run an activity to its end, through cancellations that are none."""
        attempt_here.set(attempt)
        inner = asyncio.create_task(self.next.execute_activity(input))
        try:
            while not inner.done():
                try:
                    await asyncio.wait([inner])
                except asyncio.CancelledError:
                    attempt.ending = await self._judge(attempt)
                    if attempt.ending is None:
                        attempt.ending = await self._forgotten(attempt, inner)
                    if attempt.ending is not None:
                        inner.cancel()
        except asyncio.CancelledError:
            # Once more, while it was judged: nobody waits for us any longer.
            attempt.ending = attempt.ending or "cancelled"
            inner.cancel()
            await asyncio.wait([inner])
        return inner

    async def _judge(self, attempt: Attempt) -> Ending | None:
        """Say why the SDK cancels; None if it only believes that the attempt has timed out.

        It counts the heartbeats of its own process alone, and that may have stood still while the companion has beaten.
        """
        details = activity.cancellation_details()
        if details and details.worker_shutdown:
            return "shutdown"
        if not details or not (details.not_found or details.timed_out):
            return "cancelled"
        if not details.timed_out or not await is_current(attempt):
            return "lost"
        log.info("An attempt goes on, though its process has stood still", workflow_id=attempt.info.workflow_id)
        attempt.forgotten = True
        return None

    async def _forgotten(self, attempt: Attempt, inner: "asyncio.Task[Any]") -> Ending | None:
        """Wait in the SDK's place for what may end an attempt that it has forgotten; None when it has ended by itself."""
        telling = asyncio.create_task(attempt.told.wait())
        stopping = asyncio.create_task(self._stopping())
        try:
            await asyncio.wait([inner, telling, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            telling.cancel()
            stopping.cancel()
        if inner.done():
            return None
        return attempt.answer if attempt.answer else "shutdown"

    async def _stopping(self) -> None:
        await activity.wait_for_worker_shutdown()
        await asyncio.sleep(self._attempts.grace)


async def is_current(attempt: Attempt) -> bool:
    """Ask Temporal whether an attempt is still the one that it waits for. Asks until it answers."""
    while True:
        try:
            await _handle(attempt.info).heartbeat(rpc_timeout=BEAT_TIMEOUT)
            return True
        except AsyncActivityCancelledError:
            attempt.hear("cancelled")
            return True
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
        await asyncio.sleep(BEAT_RETRY)


async def _feed(attempt: Attempt, timeout: float, *, every: float) -> None:  # noqa: ASYNC109
    """Let the SDK know that an attempt lives, and have it ask when the companion has heard something.

    What the companion hears it cannot pass on by itself: only the SDK can cancel an activity so that it counts as cancelled.
    These heartbeats are seldom; they also stand in for a companion that was killed, or stopped.
    """
    pause = min(timeout / 2, max(every, SELDOM))
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(attempt.told.wait(), pause)
        if attempt.forgotten:
            return
        attempt.told.clear()
        activity.heartbeat()


def _lost() -> ApplicationError:
    return ApplicationError("Temporal has given this attempt up", type=LOST, category=ApplicationErrorCategory.BENIGN)


def _handle(info: activity.Info) -> AsyncActivityHandle:
    client: Client = activity.client()
    return client.get_async_activity_handle(task_token=info.task_token)


async def _report(attempt: Attempt, inner: "asyncio.Task[Any]") -> None:
    """Tell Temporal how an attempt has ended that the SDK has forgotten."""
    handle = _handle(attempt.info)
    error = None if inner.cancelled() else inner.exception()
    try:
        if not inner.cancelled() and error is None:
            await handle.complete(inner.result())
        elif isinstance(error, Exception):
            await handle.fail(error)
        elif attempt.ending == "shutdown":
            await handle.fail(ApplicationError("The worker is stopping", type="WorkerShutdown"))
        else:
            await handle.report_cancellation()
    except RPCError as unheard:
        log.warning("The end of an attempt could not be reported", error=str(unheard))
