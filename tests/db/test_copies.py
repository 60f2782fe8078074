"""A copy of a thread that its source outran is not seen before it is whole."""

from uuid import UUID, uuid4

from durathread.db import expiry, threads
from durathread.db.pool import Pool, connection, transaction
from durathread.db.saver import copy_thread
from tests.db.support import address, claimed, put, saver_of

WRITES = "SELECT checkpoint_id, task_id FROM checkpoint_writes WHERE thread_id = %s"


async def test_a_hidden_copy_is_seen_by_nobody_until_it_is_revealed(pool: Pool) -> None:
    thread, copy = uuid4(), uuid4()
    async with transaction(pool) as conn:
        await threads.insert(conn, thread, metadata={})
        assert await threads.copy(conn, thread, copy, hidden=True)
    async with transaction(pool) as conn:
        assert await threads.get(conn, copy) is None
        assert await threads.lock(conn, copy) is None
        found = await threads.search(conn, {"ids": [copy]}, limit=10, offset=0)
        assert found == []
        assert await threads.reveal(conn, copy)
        assert (await threads.get(conn, copy)) is not None
    async with transaction(pool) as conn:
        assert await threads.delete(conn, copy)
        assert not await threads.reveal(conn, copy)


async def test_the_thread_of_a_stateless_run_is_never_revealed(pool: Pool) -> None:
    hidden = uuid4()
    async with transaction(pool) as conn:
        await conn.execute("INSERT INTO thread (thread_id, temporary, hidden) VALUES (%s, TRUE, TRUE)", (hidden,))
        assert not await threads.reveal(conn, hidden)
        await threads.delete(conn, hidden)


async def test_a_copy_that_was_never_whole_is_found_after_an_hour(pool: Pool) -> None:
    old, young, seen = uuid4(), uuid4(), uuid4()
    insert = "INSERT INTO thread (thread_id, hidden, created_at) VALUES (%s, %s, now() - make_interval(mins => %s))"
    async with transaction(pool) as conn:
        for row in ((old, True, 90), (young, True, 1), (seen, False, 90)):
            await conn.execute(insert, row)
    async with transaction(pool) as conn:
        found = await expiry.forsaken(conn, limit=1000)
        assert [each in found for each in (old, young, seen)] == [True, False, False]
        assert [await expiry.lock_forsaken(conn, each) for each in (old, young, seen)] == [True, False, False]
        for each in (old, young, seen):
            await threads.delete(conn, each)


async def test_a_copy_has_no_writes_without_their_checkpoint(pool: Pool, thread: UUID) -> None:
    saver, copy = saver_of(pool, await claimed(pool, thread)), uuid4()
    stored = await put(saver, thread)
    await saver.aput_writes(address(thread, stored), [("log", ["done"])], "task")
    # The worker was killed before it wrote the checkpoint that these follow.
    await saver.aput_writes(address(thread, "9" + stored[1:]), [("log", ["lost"])], "task")
    async with transaction(pool) as conn:
        await copy_thread(conn, str(thread), str(copy))
    async with connection(pool) as conn:
        rows = await (await conn.execute(WRITES, (str(copy),))).fetchall()
    assert [(row["checkpoint_id"], row["task_id"]) for row in rows] == [(stored, "task")]
