"""Deletes threads: first in the database, then in Temporal."""

from uuid import UUID

from durathread.api.deps import Server
from durathread.removal import take, tell
from durathread.store import threads
from durathread.store.filters import Filter
from durathread.store.pool import transaction


async def remove(server: Server, thread_id: UUID, *, only: Filter | None, hidden: bool = False) -> bool:
    """Delete a thread that the filter lets through, with its runs, crons and checkpoints; say whether it was there."""
    async with transaction(server.pool) as conn:
        if await threads.lock(conn, thread_id, hidden=hidden, only=only) is None:
            return False
        removed = await take(conn, thread_id)
    await tell(removed, publisher=server.publisher, temporal=server.temporal)
    return True
