"""Which claims count a death: only of a worker that had claimed the same call of the same step, and is gone."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from durathread.db import runs
from durathread.db.pool import Pool, connection
from durathread.db.presence import Presence, let_go
from durathread.records import token_of
from tests.db.support import admit, new_run
from tests.eventually import eventually


@asynccontextmanager
async def worker(database: str) -> AsyncGenerator[Presence]:
    """A worker that is there for as long as the block lasts."""
    presence = Presence(database)
    holding = asyncio.create_task(presence.run())
    await presence.held.wait()
    yield presence
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)


@pytest.fixture
async def run_id(pool: Pool) -> UUID:
    return (await admit(pool, new_run(uuid4()))).run.run_id


async def claim(
    pool: Pool, run_id: UUID, presence: Presence, attempt: int, *, call: int = 1, step: int = 0, died: int | None = None
) -> int:
    """Claim a run, and return how many deaths it counts."""
    async with connection(pool) as conn:
        run = await runs.claim(conn, run_id, token=token_of(call, attempt), step=step, presence=presence, died=died)
    assert run is not None
    return run.deaths


async def gone(pool: Pool, presence: Presence) -> None:
    """Wait until Postgres has noticed that a worker is gone."""

    async def free() -> bool:
        async with connection(pool) as conn:
            rows = await conn.execute(
                "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid::bigint = %s & 4294967295",
                (presence.worker,),
            )
            return not rows.rowcount

    await eventually(free)


async def test_a_worker_that_is_gone_has_died(pool: Pool, database: str, run_id: UUID) -> None:
    async with worker(database) as first:
        assert await claim(pool, run_id, first, 1) == 0
    await gone(pool, first)
    async with worker(database) as second:
        assert await claim(pool, run_id, second, 2) == 1
    await gone(pool, second)
    async with worker(database) as third:
        assert await claim(pool, run_id, third, 3) == 2
        # The next step begins with a clean record.
        assert await claim(pool, run_id, third, 1, call=2, step=1) == 0


async def test_a_worker_that_is_there_has_not_died(pool: Pool, database: str, run_id: UUID) -> None:
    async with worker(database) as first, worker(database) as second:
        assert await claim(pool, run_id, first, 1) == 0
        assert await claim(pool, run_id, second, 400) == 0
        assert await claim(pool, run_id, second, 401) == 0


async def test_a_worker_whose_companion_says_so_has_died(pool: Pool, database: str, run_id: UUID) -> None:
    async with worker(database) as first, worker(database) as second:
        await claim(pool, run_id, first, 1)
        # One that died before it had claimed does not count.
        assert await claim(pool, run_id, second, 2, died=12345) == 0
        assert await claim(pool, run_id, first, 3, died=second.worker) == 1


async def test_a_step_that_was_handed_back_killed_nobody(pool: Pool, database: str, run_id: UUID) -> None:
    async with worker(database) as first:
        await claim(pool, run_id, first, 1)
    await gone(pool, first)
    async with worker(database) as second:
        assert await claim(pool, run_id, second, 1, call=2) == 0
        async with connection(pool) as conn:
            await let_go(conn, second.worker)
    await gone(pool, second)
    async with worker(database) as third:
        assert await claim(pool, run_id, third, 2, call=2) == 0


async def test_a_postgres_that_was_started_anew_knows_of_no_death(pool: Pool, database: str, run_id: UUID) -> None:
    async with worker(database) as first:
        assert first.boot is not None
        # It has its lock from the Postgres before.
        first.boot -= timedelta(days=1)
        await claim(pool, run_id, first, 1)
    await gone(pool, first)
    async with worker(database) as second:
        assert await claim(pool, run_id, second, 2) == 0


def test_hundreds_of_attempts_do_not_reach_the_next_call() -> None:
    assert token_of(1, 999) < token_of(1, 1000) < token_of(1, 50_000_000) < token_of(2, 1)
