"""The activity that takes away what threads have outlived."""

from uuid import UUID

import structlog
from temporalio import activity

from durathread.activities.resources import Resources
from durathread.db import expiry
from durathread.db.pool import Connection, connection, is_outage, transaction
from durathread.db.pruning import keep_latest
from durathread.runs.deletion import Removed, take, tell
from durathread.workflows.messages import EXPIRE_THREADS, Expiration

log = structlog.get_logger()

# Threads that are looked up at once: those behind them may have been touched by the time it is their turn.
BATCH = 100


class Expiries:
    """Deletes threads that nobody has touched for as long as they may live, or all but their latest checkpoint."""

    def __init__(self, resources: Resources) -> None:
        """Take what the worker will have opened."""
        self._resources = resources

    @activity.defn(name=EXPIRE_THREADS)
    async def expire(self, given: Expiration) -> int:
        """Take away at most `limit` threads, or their history; return how many. And copies that were never whole."""
        await self._forsaken()
        count = 0
        while count < given.limit:
            async with connection(self._resources.pool) as conn:
                found = await expiry.expired(conn, limit=min(BATCH, given.limit - count))
            done = 0
            for thread_id in found:
                activity.heartbeat()
                done += await self._expire(thread_id)
            count += done
            if not done:
                break
        return count

    async def _forsaken(self) -> None:
        async with connection(self._resources.pool) as conn:
            found = await expiry.forsaken(conn, limit=BATCH)
        for thread_id in found:
            activity.heartbeat()
            async with transaction(self._resources.pool) as conn:
                removed = await take(conn, thread_id) if await expiry.lock_forsaken(conn, thread_id) else None
            if removed is not None:
                await tell(removed, publisher=self._resources.publisher, temporal=activity.client())

    async def _expire(self, thread_id: UUID) -> bool:
        removed: Removed | None = None
        async with transaction(self._resources.pool) as conn:
            strategy = await expiry.lock_expired(conn, thread_id)
            if strategy == "delete":
                removed = await take(conn, thread_id)
        if strategy == "keep_latest":
            await self._prune(thread_id)
        if removed is not None:
            await tell(removed, publisher=self._resources.publisher, temporal=activity.client())
        return strategy is not None

    async def _prune(self, thread_id: UUID) -> None:
        async def lock(conn: Connection) -> bool:
            return await expiry.lock_expired(conn, thread_id) == "keep_latest"

        try:
            await keep_latest(self._resources.pool, thread_id, lock=lock)
        except Exception as error:
            if is_outage(error):
                raise
            # Tried again after another lifetime: meanwhile it holds up no other thread.
            log.exception("A thread keeps its history", thread_id=str(thread_id))
        async with connection(self._resources.pool) as conn:
            await expiry.renew(conn, thread_id)
