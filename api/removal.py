"""Deletes threads and crons: first in the database, then in Temporal."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import structlog

from durathread import dispatch
from durathread.api.deps import Server
from durathread.errors import Unavailable
from durathread.schedules import remove as remove_schedule
from durathread.store import crons, runs, threads
from durathread.store.filters import Filter
from durathread.store.pool import transaction

log = structlog.get_logger()


async def remove(server: Server, thread_id: UUID, *, only: Filter | None) -> bool:
    """Delete a thread that the filter lets through, with its runs, crons and checkpoints; say whether it was there."""
    async with transaction(server.pool) as conn:
        if await threads.lock(conn, thread_id, only=only) is None:
            return False
        in_flight = await runs.in_flight(conn, thread_id)
        doomed = await crons.of_thread(conn, thread_id)
        await threads.delete(conn, thread_id)
    await asyncio.gather(*(server.publisher.end(run_id, "deleted") for run_id in in_flight))
    server.publisher.forget(thread_id)
    await unschedule(server, doomed)
    try:
        await dispatch.close(server.temporal, thread_id)
    except Unavailable as error:
        # The fence stops what works at its next write.
        log.warning("The workflow of a deleted thread could not be told", thread_id=str(thread_id), error=str(error))
    return True


async def unschedule(server: Server, cron_ids: Sequence[UUID]) -> None:
    """Delete the schedules of crons that have been deleted."""
    for cron_id in cron_ids:
        try:
            await remove_schedule(server.temporal, cron_id)
        except Unavailable as error:
            # It deletes itself when it fires next, or the sweep does.
            log.warning("The schedule of a deleted cron remains", cron_id=str(cron_id), error=str(error))
