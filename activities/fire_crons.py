"""The activities of crons: a firing, and the sweep that keeps rows and schedules together."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import structlog
from pydantic import ValidationError
from temporalio import activity

from durathread.activities.admit import announce
from durathread.activities.resources import Resources
from durathread.crons.expression import next_run_date
from durathread.crons.schedules import exists, listed, publish, remove
from durathread.db import admission, crons, runs
from durathread.db.admission import Admission
from durathread.db.filters import Filter
from durathread.db.pool import Connection, connection, transaction
from durathread.errors import Error, Unavailable
from durathread.records import Cron, JsonObject
from durathread.runs.of_crons import run_of
from durathread.runs.request import find_assistant, limits_of, signal_of
from durathread.runs.signals import send
from durathread.workflows.messages import FIRE, SWEEP_CRONS, CronFiring, Fired

log = structlog.get_logger()

# Says on which threads a user may start a run, or raises what refuses it.
Ask = Callable[[JsonObject, JsonObject], Awaitable[Filter | None]]


class Crons:
    """Fires crons, and repairs what a crash has left between their rows and their schedules."""

    def __init__(self, resources: Resources, *, ask: Ask) -> None:
        """Take what the worker will have opened, and whom to ask whether somebody may still start a run."""
        self._resources = resources
        self._ask = ask

    @activity.defn(name=FIRE)
    async def fire(self, firing: CronFiring) -> Fired:
        """Admit the run of a cron and send it to its thread. A repeat admits nothing."""
        cron_id, due = UUID(firing.cron_id), datetime.fromtimestamp(firing.due, UTC)
        admitted = None
        allowed = await self._allowed(cron_id)
        async with transaction(self._resources.pool) as conn:
            cron = await crons.get(conn, cron_id)
            rests = self._rests(cron, due)
            if cron and not rests and await crons.begin_firing(conn, cron_id, due):
                admitted = await self._admit(conn, cron, due, allowed=allowed)
        if cron is None:
            await remove(activity.client(), cron_id)
        if rests:
            return Fired("skipped", reason=rests)
        if cron and cron.refill_at and cron.refill_at <= due:
            await self._publish(cron_id)
        if admitted:
            await announce(self._resources.publisher, admitted)
        return await self._deliver(cron_id, due, admitted)

    @activity.defn(name=SWEEP_CRONS)
    async def sweep(self) -> int:
        """Give each cron the schedule that its row asks for, and delete those without a row; return how many."""
        client = activity.client()
        since = datetime.now(UTC) - crons.PUBLISHING
        # The schedules before the rows: a cron that is made meanwhile has a row, whether it is listed or not.
        found = await listed(client, task_queue=activity.info().task_queue)
        async with connection(self._resources.pool) as conn:
            await crons.forget_firings(conn)
            unseen = set(await crons.published(conn, since=since)) - found
        lost = [cron_id for cron_id in unseen if not await self._exists(cron_id)]
        async with connection(self._resources.pool) as conn:
            for cron_id in lost:
                await crons.mark_lost(conn, cron_id)
            behind = await crons.unpublished(conn, since=since)
            orphans = found - await crons.known(conn, found)
        count = 0
        for cron_id in (*behind, *orphans):
            activity.heartbeat()
            log.warning("The schedule of a cron is repaired", cron_id=str(cron_id))
            try:
                await self._publish(cron_id)
                count += 1
            except Error:
                # The next sweep tries again: meanwhile it holds up no other cron.
                log.exception("The schedule of a cron cannot be repaired", cron_id=str(cron_id))
        return count

    async def _exists(self, cron_id: UUID) -> bool:
        activity.heartbeat()
        return await exists(activity.client(), cron_id)

    async def _publish(self, cron_id: UUID) -> None:
        await publish(
            self._resources.pool,
            activity.client(),
            cron_id,
            task_queue=activity.info().task_queue,
            window=timedelta(seconds=self._resources.settings.cron_window),
        )

    def _rests(self, cron: Cron | None, due: datetime) -> str:
        """Say why a cron does not fire; nothing if it does."""
        if cron is None:
            return "the cron has been deleted"
        if not cron.enabled or not self._resources.settings.crons_enabled:
            return "the cron is disabled"
        return "the cron has ended" if cron.end_time and due > cron.end_time else ""

    async def _allowed(self, cron_id: UUID) -> Filter | Error | None:
        """Ask, before a connection is taken, what the threads are that the user of a cron may run on now; or why none."""
        async with connection(self._resources.pool) as conn:
            cron = await crons.get(conn, cron_id)
        user: JsonObject | None = cron and cron.configurable.get("langgraph_auth_user")
        if cron is None or user is None:
            return None
        value: JsonObject = {
            "thread_id": cron.thread_id,
            "assistant_id": cron.assistant_id,
            "cron_id": cron_id,
            "status": "pending",
            "metadata": {**(cron.payload.get("metadata") or {}), **cron.metadata, **cron.stamp},
            "multitask_strategy": cron.payload.get("multitask_strategy") or "enqueue",
            "if_not_exists": "reject",
            "kwargs": dict(cron.payload),
        }
        try:
            return await self._ask(user, value)
        except Error as error:
            return error

    async def _admit(
        self, conn: Connection, cron: Cron, due: datetime, *, allowed: Filter | Error | None
    ) -> Admission | None:
        """Admit a run; None if it is refused. Either is recorded."""
        admitted, reason = None, ""
        try:
            async with conn.transaction():
                if isinstance(allowed, Error):
                    raise allowed
                assistant = await find_assistant(conn, self._resources.graphs, str(cron.assistant_id))
                new = run_of(cron, assistant, terms=self._resources.terms)
                admitted = await admission.admit(conn, new, visible_to=allowed)
        except Unavailable:
            raise
        except (Error, ValidationError, psycopg.DataError) as error:
            reason = str(error)
            log.warning("The run of a cron was refused", cron_id=str(cron.cron_id), reason=reason)
        run_id = admitted.run.run_id if admitted else None
        await crons.end_firing(conn, cron.cron_id, due, reason=reason, run_id=run_id)
        await crons.put_next(conn, cron.cron_id, next_run_date(cron, datetime.now(UTC)))
        return admitted

    async def _deliver(self, cron_id: UUID, due: datetime, admitted: Admission | None) -> Fired:
        """Send the run of a firing, unless it has ended, and say what came of the firing, now or in an attempt before."""
        async with connection(self._resources.pool) as conn:
            recorded = await crons.firing(conn, cron_id, due)
            run = await runs.get(conn, recorded.run_id) if recorded and recorded.run_id else None
        if recorded is None or recorded.run_id is None:
            return Fired("refused", reason=recorded.reason if recorded else "the cron has been deleted")
        if run is None:
            return Fired("admitted", str(recorded.run_id), reason="the run has been deleted")
        request = signal_of(
            run, admitted.superseded if admitted else (), limits=limits_of(self._resources.settings), nodes=[]
        )
        if run.in_flight:
            await send(activity.client(), request, task_queue=activity.info().task_queue)
        return Fired("admitted", request.run_id, request.thread_id, request.graph_id)
