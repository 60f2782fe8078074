"""Deletes threads: first in the database, then in Temporal."""

import asyncio
from uuid import UUID

import structlog

from durathread import dispatch
from durathread.api.deps import Server
from durathread.errors import Unavailable
from durathread.store import runs, threads
from durathread.store.filters import Filter
from durathread.store.pool import transaction

log = structlog.get_logger()


async def remove(server: Server, thread_id: UUID, *, only: Filter | None) -> bool:
    """Delete a thread that the filter lets through, with its runs and checkpoints, and stop what runs; say whether it was there."""
    async with transaction(server.pool) as conn:
        if await threads.lock(conn, thread_id, only=only) is None:
            return False
        in_flight = await runs.in_flight(conn, thread_id)
        await threads.delete(conn, thread_id)
    await asyncio.gather(*(server.publisher.end(run_id, "deleted") for run_id in in_flight))
    server.publisher.forget(thread_id)
    try:
        await dispatch.close(server.temporal, thread_id)
    except Unavailable as error:
        # The fence stops what works at its next write.
        log.warning("The workflow of a deleted thread could not be told", thread_id=str(thread_id), error=str(error))
    return True
