"""The activities that write what a run left, when its own step could not."""

from uuid import UUID

import structlog
from temporalio import activity

from durathread.activities.close_streams import close_ended
from durathread.activities.deliver import Deliveries
from durathread.activities.positions import position_at
from durathread.activities.resources import Resources
from durathread.db import runs, threads
from durathread.db.pool import connection, transaction
from durathread.encode import dumps
from durathread.errors import Unavailable
from durathread.records import JsonObject, Run, RunStatus
from durathread.steps.superstep import Position
from durathread.streams.events import settled
from durathread.streams.thread_markers import conclude
from durathread.workflows.messages import FORGET, SETTLE, Settlement

log = structlog.get_logger()

ENDINGS: dict[str, RunStatus] = {"interrupted": "interrupted", "timeout": "timeout", "error": "error"}


class Settlements:
    """Ends runs that were cancelled, timed out or failed, and brings their threads up to date."""

    def __init__(self, resources: Resources) -> None:
        """Take what the worker will have opened."""
        self._resources = resources
        self._deliveries = Deliveries(resources)

    @activity.defn(name=SETTLE)
    async def settle(self, settlement: Settlement) -> None:
        """Record the end of a run, unless it is recorded, and write to its thread what the run left."""
        run_id = UUID(settlement.run_id)
        await self._settle(run_id, settlement)
        # Whatever ended the run, and even if it is deleted by now.
        await self._deliveries.begin(run_id)

    async def _settle(self, run_id: UUID, settlement: Settlement) -> None:
        error: JsonObject = {"error": settlement.error, "message": settlement.message}
        async with transaction(self._resources.pool) as conn:
            ended = await runs.end_unowned(conn, run_id, status=ENDINGS[settlement.status], error=error)
            run = ended or await runs.find(conn, run_id)
        # Those that were interrupted have been ended by the API; a step counts its own.
        if run is not None and (ended is not None or run.status == "interrupted"):
            self._resources.metrics.ended(run.status)
        if run is not None:
            if run.status != "success":
                await self._settle_thread(run)
            self._resources.publisher.tell(settled(run_id), run.status)
        if ended is None:
            thread_id = str(run.thread_id) if run else settlement.thread_id
            await close_ended(self._resources, thread_id, [settlement.run_id] if thread_id else [])
        else:
            if settlement.status != "interrupted" and not settlement.logged:
                _report(ended, settlement)
            if settlement.status != "interrupted":
                self._resources.publisher.publish(run_id, "error", dumps(error))
            await conclude(self._resources.publisher, ended, settlement.status, error=settlement.message, alone=True)

    @activity.defn(name=FORGET)
    async def forget(self, thread_id: str) -> None:
        """Delete the thread of a stateless run."""
        async with transaction(self._resources.pool) as conn:
            await threads.delete(conn, UUID(thread_id))
        self._resources.publisher.forget(thread_id)

    async def _settle_thread(self, run: Run) -> None:
        async with connection(self._resources.pool) as conn:
            checkpoint_id = await runs.last_checkpoint(conn, run)
        # Not the thread's latest: by now that may be its successor's.
        position = await self._position(run, checkpoint_id) if checkpoint_id else None
        resting = position.resting if position else None
        async with transaction(self._resources.pool) as conn:
            await runs.settle_thread(
                conn,
                run.run_id,
                resting=resting if run.status == "interrupted" else "error",
                values=position.state if position else None,
                interrupts=position.interrupts if position else None,
            )

    async def _position(self, run: Run, checkpoint_id: str) -> Position | None:
        try:
            return await position_at(
                self._resources, run.graph_id, run.thread_id, checkpoint_id=checkpoint_id, options=run.options
            )
        except Unavailable:
            raise
        except Exception:
            # The graph is not what it was. Better a thread that shows what it showed than one that is busy for ever.
            log.exception("What a run has left cannot be read", run_id=str(run.run_id))
            return None


def _report(run: Run, settlement: Settlement) -> None:
    """Log the failure of a run whose step could not."""
    log.error(
        "A run has failed",
        run_id=str(run.run_id),
        thread_id=str(run.thread_id),
        graph_id=run.graph_id,
        attempt=run.retries + 1,
        status=settlement.status,
        error=settlement.error,
        message=settlement.message,
    )
