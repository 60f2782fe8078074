"""The pool after its connections were lost."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from durathread.db.pool import Pool, connection, open_pool, transaction
from durathread.errors import Unavailable


async def pid_of(pool: Pool, stack: AsyncExitStack) -> int:
    """Borrow a connection, and name the process that serves it."""
    conn = await stack.enter_async_context(connection(pool))
    return conn.info.backend_pid


async def test_connections_that_were_all_lost_keep_nobody_waiting(pool: Pool, database: str) -> None:
    async with open_pool(database, size=8) as lost:
        async with AsyncExitStack() as stack:
            pids = await asyncio.gather(*(pid_of(lost, stack) for _ in range(8)))
        async with connection(pool) as conn:
            ended = await conn.execute("SELECT pg_terminate_backend(pid, 10000) FROM unnest(%s) AS pid", (pids,))
            assert [row["pg_terminate_backend"] for row in await ended.fetchall()] == [True] * 8
        # Alone: all the dead connections are before it.
        async with AsyncExitStack() as stack:
            assert await pid_of(lost, stack) not in pids


async def test_what_a_stalled_transaction_holds_is_given_to_those_who_wait_for_it(pool: Pool, database: str) -> None:
    hold = "SELECT pg_advisory_xact_lock(72701)"

    async def stall() -> None:
        async with transaction(stalled) as conn:
            await conn.execute(hold)
            async with transaction(pool) as waiting:
                await asyncio.wait_for(waiting.execute(hold), 30)
            await conn.execute("SELECT 1")

    async with open_pool(database, size=2, abandoned_after=0.2) as stalled:
        with pytest.raises(Unavailable):
            await stall()
        async with connection(stalled) as conn:
            await conn.execute("SELECT 1")
