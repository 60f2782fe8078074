"""The removal of threads and crons: from the database, then from streams and Temporal."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
from temporalio.client import Client

from durathread.crons.schedules import remove as remove_schedule
from durathread.db import crons, runs, threads
from durathread.db.pool import Connection
from durathread.errors import Unavailable
from durathread.runs import signals
from durathread.streams.publisher import Publisher

log = structlog.get_logger()


@dataclass(frozen=True)
class Removed:
    """A thread that has been deleted, and what does not know yet."""

    thread_id: UUID
    in_flight: Sequence[UUID]
    crons: Sequence[UUID]
    # The largest admission number of its runs.
    upto: int


async def take(conn: Connection, thread_id: UUID) -> Removed:
    """Delete a thread with its runs, crons and checkpoints. The caller has locked it, and holds the transaction."""
    removed = Removed(
        thread_id,
        in_flight=await runs.in_flight(conn, thread_id),
        crons=await crons.of_thread(conn, thread_id),
        upto=await runs.last_seq(conn, thread_id),
    )
    await threads.delete(conn, thread_id)
    return removed


async def tell(removed: Removed, *, publisher: Publisher, temporal: Client) -> None:
    """Stop what works on a thread that has been deleted, and tell who watches it."""
    await asyncio.gather(*(publisher.end(run_id, "deleted") for run_id in removed.in_flight))
    publisher.forget(removed.thread_id)
    await unschedule(temporal, removed.crons)
    try:
        await signals.close(temporal, removed.thread_id, upto=removed.upto)
    except Unavailable as error:
        # The fence stops what works at its next write.
        thread_id = str(removed.thread_id)
        log.warning("The workflow of a deleted thread could not be told", thread_id=thread_id, error=str(error))


async def unschedule(temporal: Client, cron_ids: Sequence[UUID]) -> None:
    """Delete the schedules of crons that have been deleted."""
    for cron_id in cron_ids:
        try:
            await remove_schedule(temporal, cron_id)
        except Unavailable as error:
            # It deletes itself when it fires next, or the sweep does.
            log.warning("The schedule of a deleted cron remains", cron_id=str(cron_id), error=str(error))
