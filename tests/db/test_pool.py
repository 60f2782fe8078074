"""The pool after its connections were lost."""

import asyncio
from contextlib import AsyncExitStack

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from durathread.db import schema
from durathread.db.migrate import upgrade
from durathread.db.pool import Pool, connection, open_pool, transaction
from durathread.embedded.engines import Engines
from durathread.errors import Unavailable
from tests.conftest import own_database


async def pid_of(pool: Pool, stack: AsyncExitStack) -> int:
    """Borrow a connection, and name the process that serves it."""
    conn = await stack.enter_async_context(connection(pool))
    return conn.info.backend_pid


@pytest.mark.parametrize("by", ["the connection string", "the environment"])
async def test_options_of_the_connection_string_hold_beside_ours(
    engine_set: Engines, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """A schema of one's own is an option, and so are what hosted databases want to know."""
    options = "-c search_path=agents -c timezone=Asia/Tokyo"
    async with own_database(engine_set) as plain:
        with psycopg.connect(plain, autocommit=True) as conn:
            conn.execute("CREATE SCHEMA agents")
        if by == "the environment":
            monkeypatch.setenv("PGOPTIONS", options)
        url = make_conninfo(plain, options=options) if by == "the connection string" else plain
        upgrade(url)
        async with open_pool(url, size=2) as opened, connection(opened) as conn:
            assert (await schema.read(conn)).is_current
            found = await conn.execute("SELECT current_schema() AS schema, current_setting('timezone') AS zone")
            assert await found.fetchall() == [{"schema": "agents", "zone": "UTC"}]


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
