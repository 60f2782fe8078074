"""What decides about runs does not read their inputs, which may be large and many."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from durathread.db import runs
from durathread.db.pool import Connection, Pool, connection, open_pool, transaction
from tests.db.support import admit, claim, new_run
from tests.proxy import Meter, metered

INPUT = 300_000
# Less than one of them; other tests leave runs that are read as well.
MOST = 250_000

Read = Callable[[Connection, UUID, list[UUID]], Awaitable[Any]]


@pytest.fixture(scope="module")
async def meter(database: str) -> AsyncGenerator[Meter]:
    """The way to the session's database, with a meter."""
    async with metered(database) as found:
        yield found


@pytest.fixture
async def far(meter: Meter) -> AsyncGenerator[Pool]:
    """A pool whose answers are counted."""
    async with open_pool(meter.url, size=2) as opened:
        yield opened


async def with_large_inputs(pool: Pool, thread: UUID) -> list[UUID]:
    """Put one run to work and queue two, each with an input that is larger than all that may be read."""
    large = {"input": {"text": "x" * INPUT}, "config": {}}
    ids = [(await admit(pool, new_run(thread, kwargs=large))).run.run_id for _ in range(3)]
    await claim(pool, ids[0])
    return ids


READS: dict[str, Read] = {
    "the heads of a thread": lambda conn, thread, _: runs.heads(conn, thread),
    "one run": lambda conn, _, ids: runs.find(conn, ids[0]),
    "a list without inputs": lambda conn, thread, _: runs.listed(
        conn, thread, status=None, limit=100, offset=0, with_input=False
    ),
    "those in flight": lambda conn, thread, _: runs.in_flight(conn, thread),
    "how far they are": lambda conn, _, ids: runs.standings(conn, ids),
    "what the sweep looks for": lambda conn, _, __: runs.stranded(conn, age=0, limit=1000),
    "what is to be settled": lambda conn, _, __: runs.unsettled(conn, age=0, limit=1000),
    "the load": lambda conn, _, __: runs.load(conn),
    "a step after the first": lambda conn, _, ids: runs.claim(conn, ids[0], token=9_000_000, step=1),
    "the end of a run": lambda conn, _, ids: runs.end_unowned(conn, ids[2], status="error", error=None),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
async def test_inputs_are_not_read(pool: Pool, far: Pool, meter: Meter, thread: UUID, read: Read) -> None:
    ids = await with_large_inputs(pool, thread)
    async with connection(far) as conn:
        before = meter.answered
        await read(conn, thread, ids)
        assert 0 < meter.answered - before < MOST


@pytest.mark.parametrize("strategy", ["enqueue", "interrupt", "rollback"])
async def test_who_admits_a_run_does_not_read_the_inputs_of_others(
    pool: Pool, far: Pool, meter: Meter, thread: UUID, strategy: Any
) -> None:
    await with_large_inputs(pool, thread)
    async with connection(far):
        before = meter.answered
    assert (await admit(far, new_run(thread, strategy))).run.status == "pending"
    assert 0 < meter.answered - before < MOST


async def test_the_meter_sees_an_input_that_is_read(pool: Pool, far: Pool, meter: Meter, thread: UUID) -> None:
    ids = await with_large_inputs(pool, thread)
    async with transaction(far) as conn:
        before = meter.answered
        assert await runs.get(conn, ids[0]) is not None
        assert meter.answered - before > INPUT
