"""What is read of runs: as much as is needed, for inputs may be large."""

from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import pytest

from durathread.db import runs
from durathread.db.pool import Connection, Pool, connection
from durathread.records import Run
from tests.db.support import admit, claim, finish, new_run

KWARGS = {"input": {"large": "x"}, "command": {"resume": 1}, "config": {"configurable": {}}}

Reads = Callable[[Connection, UUID], Awaitable[list[Run]]]


async def heads(conn: Connection, thread_id: UUID) -> list[Run]:
    return await runs.heads(conn, thread_id)


async def stranded(conn: Connection, thread_id: UUID) -> list[Run]:
    return [run for run in await runs.stranded(conn, age=0, limit=1000) if run.thread_id == thread_id]


@pytest.mark.parametrize("read", [heads, stranded])
async def test_what_decides_about_runs_reads_no_input(pool: Pool, read: Reads) -> None:
    thread_id = uuid4()
    await admit(pool, new_run(thread_id, kwargs=KWARGS))
    async with connection(pool) as conn:
        (found,) = await read(conn, thread_id)
    assert found.options.command is not None
    assert found.options.input is None


async def test_only_the_first_step_reads_the_input(pool: Pool) -> None:
    run_id = (await admit(pool, new_run(uuid4(), kwargs=KWARGS))).run.run_id
    assert (await claim(pool, run_id, token=1001)).options.input == KWARGS["input"]
    assert (await claim(pool, run_id, token=1002)).options.input == KWARGS["input"]
    later = await claim(pool, run_id, token=2001, step=1)
    assert later.options.input is None
    assert later.options.command == KWARGS["command"]


async def test_of_a_long_thread_the_newest_run_and_those_in_flight_are_read(pool: Pool) -> None:
    thread_id = uuid4()
    ended: list[UUID] = []
    for number in range(3):
        ended.append((await admit(pool, new_run(thread_id))).run.run_id)
        assert await finish(pool, await claim(pool, ended[-1], token=1001 + number))
    async with connection(pool) as conn:
        assert [found.run_id for found in await runs.heads(conn, thread_id)] == ended[-1:]
        waiting = [(await admit(pool, new_run(thread_id))).run.run_id for _ in range(2)]
        assert [found.run_id for found in await runs.heads(conn, thread_id)] == waiting[::-1]
