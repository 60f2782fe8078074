"""The fence: at most one attempt writes for a run, and none after its end."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest

from durathread.db import admission, runs, threads
from durathread.db.pool import Connection, Pool, connection, transaction
from durathread.db.saver import PUT_WRITES, Saver
from durathread.errors import Fenced, ThreadBusy
from durathread.records import Run
from tests.db.support import address, admit, cancel, claim, claimed, finish, new_run, pending, put, run_of, saver_of
from tests.eventually import eventually

TASK = "11111111-1111-1111-1111-111111111111"


async def write_checkpoint(saver: Saver, run: Run, base: str) -> None:
    await put(saver, run.thread_id, run_id=run.run_id, parent=base, log=["late"])


async def write_writes(saver: Saver, run: Run, base: str) -> None:
    await saver.aput_writes(address(run.thread_id, base), [("log", ["late"])], TASK)


async def interrupted(pool: Pool, run: Run) -> None:
    await cancel(pool, run, "interrupt")


async def rolled_back(pool: Pool, run: Run) -> None:
    await cancel(pool, run, "rollback")


async def superseded(pool: Pool, run: Run) -> None:
    await admit(pool, new_run(run.thread_id, "interrupt"))


async def timed_out(pool: Pool, run: Run) -> None:
    async with transaction(pool) as conn:
        await runs.end_unowned(conn, run.run_id, status="timeout", error={"error": "TimeoutError", "message": ""})


async def taken_over(pool: Pool, run: Run) -> None:
    await claim(pool, run.run_id, token=run.attempt + 1)


async def ended(pool: Pool, run: Run) -> None:
    assert await finish(pool, run)


LOSSES = [interrupted, rolled_back, superseded, timed_out, taken_over, ended]
Loss = Callable[[Pool, Run], Awaitable[None]]
Write = Callable[[Saver, Run, str], Awaitable[None]]


@pytest.mark.parametrize("write", [write_checkpoint, write_writes])
@pytest.mark.parametrize("lose", LOSSES)
async def test_an_attempt_that_lost_its_run_cannot_write(pool: Pool, thread: UUID, lose: Loss, write: Write) -> None:
    base = await put(Saver(pool), thread, log=["base"])
    run = await claimed(pool, thread)
    saver = saver_of(pool, run)
    await lose(pool, run)
    with pytest.raises(Fenced):
        await write(saver, run, base)
    found = [item async for item in Saver(pool).alist(address(thread))]
    assert [item.checkpoint["id"] for item in found] == [base]
    assert await pending(pool, thread) == []


async def test_a_write_that_is_refused_is_said_to_who_waits_for_it(pool: Pool, thread: UUID) -> None:
    """So that its graph is stopped at once: it may do more that leaves traces outside."""
    run = await claimed(pool, thread)
    saver = saver_of(pool, run)
    base = await put(saver, thread, run_id=run.run_id)
    await interrupted(pool, run)
    waiting = asyncio.create_task(saver.refused())
    with pytest.raises(Fenced):
        await write_checkpoint(saver, run, base)
    async with asyncio.timeout(10):
        await waiting


async def test_the_owner_of_a_run_can_write(pool: Pool, thread: UUID) -> None:
    base = await put(Saver(pool), thread, log=["base"])
    run = await claimed(pool, thread)
    saver = saver_of(pool, run)
    await write_writes(saver, run, base)
    assert await pending(pool, thread) == [(TASK, "log", ["late"])]
    await write_checkpoint(saver, run, base)
    found = await Saver(pool).aget_tuple(address(thread))
    assert found is not None
    assert found.checkpoint["channel_values"]["log"] == ["late"]


async def leaving(pool: Pool, thread: UUID) -> Run:
    """Interrupt a run that has been asked to write only when it stops."""
    run = (await admit(pool, new_run(thread, kwargs={"durability": "exit"}))).run
    run = await claim(pool, run.run_id)
    await interrupted(pool, run)
    return run


async def settled(pool: Pool, run: Run) -> None:
    async with transaction(pool) as conn:
        await runs.settle_thread(conn, run.run_id, resting="idle", values=None, interrupts=None)


async def edited(pool: Pool, run: Run) -> None:
    async with transaction(pool) as conn:
        await threads.lock_idle(conn, run.thread_id)
        await threads.put_state(conn, run.thread_id, resting="idle", values={}, interrupts={})


async def succeeded(pool: Pool, run: Run) -> None:
    successor = (await admit(pool, new_run(run.thread_id))).run
    await claim(pool, successor.run_id)


async def gone(pool: Pool, run: Run) -> None:
    async with transaction(pool) as conn:
        await admission.delete(conn, run.thread_id, run.run_id)


@pytest.mark.parametrize("write", [write_checkpoint, write_writes])
async def test_a_run_that_writes_when_it_stops_says_where_it_was(pool: Pool, thread: UUID, write: Write) -> None:
    base = await put(Saver(pool), thread, log=["base"])
    run = await leaving(pool, thread)
    await admit(pool, new_run(thread))
    await write(saver_of(pool, run), run, base)
    found = [item async for item in Saver(pool).alist(address(thread))]
    assert len(found) + len(await pending(pool, thread)) == 2


@pytest.mark.parametrize("write", [write_checkpoint, write_writes])
@pytest.mark.parametrize("lose", [settled, edited, succeeded, gone])
async def test_a_run_that_has_stopped_says_no_more(pool: Pool, thread: UUID, lose: Loss, write: Write) -> None:
    base = await put(Saver(pool), thread, log=["base"])
    run = await leaving(pool, thread)
    await lose(pool, run)
    with pytest.raises(Fenced):
        await write(saver_of(pool, run), run, base)
    found = [item async for item in Saver(pool).alist(address(thread))]
    assert [item.checkpoint["id"] for item in found] == [base]
    assert await pending(pool, thread) == []


async def test_a_successor_begins_before_or_behind_what_a_run_leaves(pool: Pool, database: str, thread: UUID) -> None:
    base = await put(Saver(pool), thread, log=["base"])
    run = await leaving(pool, thread)
    successor = (await admit(pool, new_run(thread))).run
    async with await psycopg.AsyncConnection.connect(database) as writer:
        await writer.execute(PUT_WRITES, writes_of(run, base))
        claiming = asyncio.create_task(claim(pool, successor.run_id))
        await eventually(lambda: waits(pool, writer.info.backend_pid))
        assert not claiming.done()
        await writer.commit()
        await claiming
    assert await pending(pool, thread) == [(TASK, "log", ["late"])]
    with pytest.raises(Fenced):
        await write_checkpoint(saver_of(pool, run), run, base)


async def test_the_attempt_that_took_over_can_write(pool: Pool, thread: UUID) -> None:
    base = await put(Saver(pool), thread, log=["base"])
    run = await claimed(pool, thread)
    successor = await claim(pool, run.run_id, token=run.attempt + 1)
    await write_writes(saver_of(pool, successor), successor, base)
    assert await pending(pool, thread) == [(TASK, "log", ["late"])]


async def test_a_pending_run_cannot_write_before_it_is_claimed(pool: Pool, thread: UUID) -> None:
    run = (await admit(pool, new_run(thread))).run
    with pytest.raises(Fenced):
        await put(saver_of(pool, run), thread, run_id=run.run_id)


async def test_state_is_not_changed_while_a_run_is_in_flight(pool: Pool, thread: UUID) -> None:
    run = (await admit(pool, new_run(thread))).run
    saver = Saver(pool, idle_thread=str(thread))
    with pytest.raises(ThreadBusy):
        await put(saver, thread, log=["by hand"])
    run = await claim(pool, run.run_id)
    with pytest.raises(ThreadBusy):
        await put(saver, thread, log=["by hand"])
    await finish(pool, run)
    written = await put(saver, thread, log=["by hand"])
    await saver.aput_writes(address(thread, written), [("log", ["more"])], TASK)
    assert await pending(pool, thread) == [(TASK, "log", ["more"])]


async def interrupt_in(conn: Connection, run: Run) -> None:
    await admission.cancel(conn, run.thread_id, run_ids=[run.run_id], action="interrupt", reason="test")


async def roll_back_in(conn: Connection, run: Run) -> None:
    await admission.cancel(conn, run.thread_id, run_ids=[run.run_id], action="rollback", reason="test")


async def time_out_in(conn: Connection, run: Run) -> None:
    await runs.end_unowned(conn, run.run_id, status="timeout", error=None)


async def take_over_in(conn: Connection, run: Run) -> None:
    assert await runs.claim(conn, run.run_id, token=run.attempt + 1, step=0)


async def end_in(conn: Connection, run: Run) -> None:
    await runs.end_owned(
        conn,
        run.run_id,
        token=run.attempt,
        status="success",
        resting="idle",
        error=None,
        values=None,
        interrupts=None,
        checkpoint_id=None,
    )


ENDS = [interrupt_in, roll_back_in, time_out_in, take_over_in, end_in]
End = Callable[[Connection, Run], Awaitable[None]]


async def waits(pool: Pool, pid: int) -> bool:
    """Say whether another connection waits for one."""
    async with connection(pool) as conn:
        query = "SELECT 1 FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
        return bool(await (await conn.execute(query, (pid,))).fetchall())


@pytest.mark.parametrize("end", ENDS)
async def test_the_end_of_a_run_waits_for_the_write_in_flight(
    pool: Pool, database: str, thread: UUID, end: End
) -> None:
    base = await put(Saver(pool), thread, log=["base"])
    run = await claimed(pool, thread)

    async def finish_it() -> None:
        async with transaction(pool) as conn:
            await end(conn, run)

    async with await psycopg.AsyncConnection.connect(database) as writer:
        await writer.execute(PUT_WRITES, writes_of(run, base))
        ending = asyncio.create_task(finish_it())
        await eventually(lambda: waits(pool, writer.info.backend_pid))
        assert not ending.done()
        await writer.commit()
        await ending
    rolled_back = await run_of(pool, run.run_id) is None
    # The end has seen the write: a rollback took it away, any other end left it.
    assert await pending(pool, thread) == ([] if rolled_back else [(TASK, "log", ["late"])])
    with pytest.raises(Fenced):
        await write_checkpoint(saver_of(pool, run), run, base)


@pytest.mark.parametrize("end", ENDS)
async def test_a_write_waits_for_the_end_in_flight_and_is_refused(pool: Pool, thread: UUID, end: End) -> None:
    base = await put(Saver(pool), thread, log=["base"])
    run = await claimed(pool, thread)
    async with transaction(pool) as conn:
        await end(conn, run)
        writing = asyncio.create_task(write_writes(saver_of(pool, run), run, base))
        await eventually(lambda: waits(pool, conn.info.backend_pid))
        assert not writing.done()
    with pytest.raises(Fenced):
        await writing
    assert await pending(pool, thread) == []


async def test_a_write_that_waited_for_an_end_that_was_taken_back_passes(pool: Pool, thread: UUID) -> None:
    base = await put(Saver(pool), thread, log=["base"])
    run = await claimed(pool, thread)
    async with transaction(pool) as conn:
        await interrupt_in(conn, run)
        writing = asyncio.create_task(write_writes(saver_of(pool, run), run, base))
        await eventually(lambda: waits(pool, conn.info.backend_pid))
        raise psycopg.Rollback
    await writing
    assert await pending(pool, thread) == [(TASK, "log", ["late"])]


def writes_of(run: Run, checkpoint_id: str) -> dict[str, Any]:
    """What `aput_writes` sends."""
    kind, blob = Saver.serde.dumps_typed(["late"])
    return {
        "owner": str(run.run_id),
        "token": run.attempt,
        "idle": None,
        "thread": str(run.thread_id),
        "ns": "",
        "id": checkpoint_id,
        "task": TASK,
        "path": "",
        "overwrite": False,
        "idxs": [0],
        "channels": ["log"],
        "types": [kind],
        "blobs": [blob],
    }


async def test_a_state_change_and_an_admission_exclude_each_other(pool: Pool, thread: UUID) -> None:
    await finish(pool, await claimed(pool, thread))
    async with transaction(pool) as conn:
        await admission.admit(conn, new_run(thread))
        writing = asyncio.create_task(put(Saver(pool, idle_thread=str(thread)), thread, log=["by hand"]))
        await eventually(lambda: waits(pool, conn.info.backend_pid))
        assert not writing.done()
    with pytest.raises(ThreadBusy):
        await writing


async def test_the_fence_names_the_run_to_its_own_transaction_only(pool: Pool, thread: UUID) -> None:
    """A connection goes back to the pool without the name of the run that it wrote for."""
    run = await claimed(pool, thread)
    base = await put(saver_of(pool, run), thread, run_id=run.run_id)
    async with connection(pool) as conn:
        await conn.execute(PUT_WRITES, writes_of(run, base))
        await conn.execute(PUT_WRITES, {**writes_of(run, base), "owner": None, "token": None, "task": "other"})
        query = "SELECT task_id, run_id FROM checkpoint_writes WHERE thread_id = %s ORDER BY task_id"
        rows = await (await conn.execute(query, (str(thread),))).fetchall()
    assert [(row["task_id"], row["run_id"]) for row in rows] == [(TASK, str(run.run_id)), ("other", None)]
