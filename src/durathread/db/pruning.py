"""What a thread loses when all but its latest checkpoint go."""

from collections.abc import Awaitable, Callable
from typing import Any, cast
from uuid import UUID

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.errors import SerializationFailure

from durathread.db.pool import Connection, Pool, transaction

# LangGraph prunes on this level, and must find it set: it is told to do so in our transaction, on our connection.
STILL = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
TRIES = 5


class _Moved(Exception):
    """Another transaction has changed the thread meanwhile."""


async def keep_latest(pool: Pool, thread_id: UUID, *, lock: Callable[[Connection], Awaitable[bool]]) -> bool:
    """Delete all checkpoints of a thread but its latest; say whether it was done.

    Args:
        pool: lends one connection, for the thread's lock and for what is deleted.
        thread_id: the thread.
        lock: locks the thread, and says whether it may be pruned.

    Raises:
        NotImplementedError: the thread's graph keeps its state as changes to earlier ones.
    """
    for _ in range(TRIES):
        try:
            return await _try(pool, thread_id, lock=lock)
        except _Moved:
            continue
    return False


async def _try(pool: Pool, thread_id: UUID, *, lock: Callable[[Connection], Awaitable[bool]]) -> bool:
    async with transaction(pool) as conn:
        try:
            await conn.execute(STILL)
            if not await lock(conn):
                return False
            await AsyncPostgresSaver(cast(Any, conn)).aprune([str(thread_id)], strategy="keep_latest")
        except SerializationFailure as error:
            raise _Moved from error
    return True
