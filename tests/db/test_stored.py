"""What is stored, by whose it is."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from typing import Any, LiteralString, TypeVar
from uuid import UUID, uuid4

import pytest

from durathread.db import stored, threads
from durathread.db.pool import Connection, Pool, connection, open_pool, transaction
from durathread.db.quotas import TURN
from durathread.errors import TooMany
from durathread.records import Allowance
from tests.db.support import admit, new_run
from tests.eventually import eventually

T = TypeVar("T")

DRIFT: LiteralString = """
SELECT measured_bytes(%(holder)s) - s.bytes
       - coalesce((SELECT sum(c.bytes) FROM stored_change c WHERE c.holder = %(holder)s), 0) AS bytes
FROM stored s WHERE s.holder = %(holder)s
"""


@pytest.fixture
async def counting(database: str) -> AsyncIterator[Pool]:
    """Connections that count what they write."""
    async with open_pool(database, size=4, counting=True) as found:
        yield found


@pytest.fixture
def tenant() -> Allowance:
    """Somebody who may have a lot."""
    return Allowance(f"tenant-{uuid4()}", 1_000_000)


async def total(conn: Connection, who: Allowance) -> int:
    """Return what somebody has stored, which is what they are said to have."""
    measured = await (await conn.execute("SELECT measured_bytes(%s) AS bytes", (who.holder,))).fetchall()
    drift = await (await conn.execute(DRIFT, {"holder": who.holder})).fetchone()
    assert drift is None or drift["bytes"] == 0
    return measured[0]["bytes"]


async def test_a_thread_is_its_creators_until_its_first_run_names_somebody_by_a_key(
    counting: Pool, thread: UUID, tenant: Allowance
) -> None:
    user = replace(tenant, holder=f"user-{uuid4()}")
    async with connection(counting) as conn:
        await threads.insert(conn, thread, metadata={"text": "x" * 500}, holder=user.holder)
    for each in (user, tenant):
        await stored.put_right(counting, each.holder, measure=True)
    by_key: dict[str, Any] = {
        "kwargs": {"fairness_key": tenant.holder},
        "allowance": replace(tenant, most=None),
        "room": tenant,
    }
    await admit(counting, new_run(thread, **by_key))
    async with connection(counting) as conn:
        assert await total(conn, user) == 0
        moved = await total(conn, tenant)
        assert moved > 500
    # The second run does not move it, but counts for whose it is.
    other = replace(tenant, holder=f"tenant-{uuid4()}")
    await admit(counting, new_run(thread, room=other, kwargs={"fairness_key": other.holder}))
    async with connection(counting) as conn:
        assert await total(conn, other) == 0
        assert await total(conn, tenant) > moved


async def test_a_thread_of_before_is_its_next_writers_with_all_that_it_holds(
    pool: Pool, counting: Pool, thread: UUID, tenant: Allowance
) -> None:
    await admit(pool, new_run(thread, metadata={"text": "x" * 5000}))
    async with connection(pool) as conn:
        await conn.execute("UPDATE thread SET holder = NULL WHERE thread_id = %s", (thread,))
    await stored.put_right(counting, tenant.holder, measure=True)
    await admit(counting, new_run(thread, room=tenant))
    async with connection(counting) as conn:
        assert await total(conn, tenant) > 5000


async def test_who_does_not_count_pays_nothing_and_is_counted_later(
    pool: Pool, counting: Pool, thread: UUID, tenant: Allowance
) -> None:
    async with connection(pool) as conn:
        await threads.insert(conn, thread, metadata={"text": "x" * 2000}, holder=tenant.holder)
        noted = "SELECT count(*) AS n FROM stored_change WHERE holder = %s"
        assert (await (await conn.execute(noted, (tenant.holder,))).fetchall())[0]["n"] == 0
    with pytest.raises(TooMany):
        await stored.look(counting, replace(tenant, most=2000), creates=True)
    async with transaction(counting) as conn:
        await threads.delete(conn, thread)
    await stored.look(counting, replace(tenant, most=2000), creates=True)
    async with connection(counting) as conn:
        assert await total(conn, tenant) == 0


async def test_notes_are_added_up(counting: Pool, tenant: Allowance) -> None:
    await stored.put_right(counting, tenant.holder, measure=True)
    async with connection(counting) as conn:
        for _ in range(3):
            await threads.insert(conn, uuid4(), metadata={}, holder=tenant.holder)
        before = await total(conn, tenant)
    assert await stored.put_right(counting, tenant.holder, measure=False) == before
    async with connection(counting) as conn:
        left = "SELECT count(*) AS n FROM stored_change WHERE holder = %s"
        assert (await (await conn.execute(left, (tenant.holder,))).fetchall())[0]["n"] == 0
        assert await total(conn, tenant) == before


async def test_of_many_who_find_a_total_old_one_measures(counting: Pool, tenant: Allowance) -> None:
    await stored.put_right(counting, tenant.holder, measure=True)
    waiting = "SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = %s"
    turn = {"kind": "bytes", "holder": tenant.holder}
    async with connection(counting) as conn:
        [row] = await (await conn.execute("SELECT oid FROM pg_database WHERE datname = current_database()")).fetchall()

    async def queue(task: Coroutine[Any, Any, T], place: int) -> asyncio.Task[T]:
        started = asyncio.create_task(task)

        async def waits() -> bool:
            async with connection(counting) as conn:
                return (await (await conn.execute(waiting, (row["oid"],))).fetchall())[0]["n"] == place

        await eventually(waits)
        return started

    async def measured() -> Any:
        async with transaction(counting) as conn:
            await conn.execute(TURN, turn)
            query = "SELECT measured_at FROM stored WHERE holder = %s"
            return (await (await conn.execute(query, (tenant.holder,))).fetchall())[0]["measured_at"]

    async with open_pool(str(counting.conninfo), size=4, counting=True) as others:
        async with transaction(counting) as conn:
            await conn.execute(TURN, turn)
            async with connection(counting) as other:
                await stored.doubt(other)
            first = await queue(stored.look(others, tenant, creates=True), 1)
            between = await queue(measured(), 2)
            second = await queue(stored.look(others, tenant, creates=True), 3)
        await first
        await second
    assert await between == await measured()


async def test_notes_are_added_up_by_whoever_writes_if_nobody_asks(
    counting: Pool, thread: UUID, tenant: Allowance
) -> None:
    await stored.put_right(counting, tenant.holder, measure=True)
    async with connection(counting) as conn:
        await conn.execute(
            "INSERT INTO stored_change SELECT %s, 0 FROM generate_series(1, %s)", (tenant.holder, stored.MOST_NOTES + 1)
        )
    await admit(counting, new_run(thread, room=tenant))
    async with connection(counting) as conn:
        left = "SELECT count(*) AS n FROM stored_change WHERE holder = %s"
        assert (await (await conn.execute(left, (tenant.holder,))).fetchall())[0]["n"] < 10
        assert await total(conn, tenant) > 0
