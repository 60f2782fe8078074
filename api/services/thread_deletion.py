"""Deletes threads: first in the database, then in Temporal."""

from uuid import UUID

from durathread.api.deps import Server
from durathread.db import threads
from durathread.db.filters import Filter
from durathread.db.pool import transaction
from durathread.runs.deletion import take, tell


async def remove(server: Server, thread_id: UUID, *, visible_to: Filter | None, hidden: bool = False) -> bool:
    """Delete a thread that the filter lets through, with its runs, crons and checkpoints; say whether it was there."""
    async with transaction(server.pool) as conn:
        if await threads.lock(conn, thread_id, hidden=hidden, visible_to=visible_to) is None:
            return False
        removed = await take(conn, thread_id)
    await tell(removed, publisher=server.publisher, temporal=server.temporal)
    return True
