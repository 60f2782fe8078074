"""A step that says more than Valkey takes waits for it, and nobody else does."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from durathread.db.pool import Pool
from durathread.embedded.engines import Engines
from durathread.events.outlet import Outlet
from durathread.streams.frames import Named, frame
from durathread.streams.publisher import LEAST_SHARE, MAX_BACKLOG, Publisher
from durathread.streams.valkey import connect
from tests.steps.stepping import Thread

BIG = b'"' + b"x" * 1024 * 1024 + b'"'


@pytest.fixture
async def publisher(engine_set: Engines) -> AsyncIterator[Publisher]:
    """One that writes nothing until it is run."""
    async with connect(engine_set.redis_url) as redis:
        yield Publisher(redis, max_events=1000, max_bytes=10**9, ttl=60)


async def waits(outlet: Outlet) -> "asyncio.Task[None] | None":
    """Ask for room; return who still waits after both loops have had their turn."""
    asking = asyncio.create_task(outlet.room())
    for _ in range(20):
        await asyncio.sleep(0)
    return None if asking.done() else asking


async def test_a_run_that_says_more_than_its_share_waits_until_it_is_written(publisher: Publisher, pool: Pool) -> None:
    thread = Thread(pool)
    loud, quiet = thread.run_of(), replace(thread.run_of(), thread_id=thread.run_of().run_id)
    outlet, other = Outlet(publisher, loud), Outlet(publisher, quiet)
    for _ in range(MAX_BACKLOG // len(BIG) + 1):
        assert not await waits(outlet)
        outlet.event("values", BIG)
    other.event("values", b"1" * LEAST_SHARE)
    waiting = await waits(outlet)
    assert waiting is not None
    assert not await waits(other)
    running = asyncio.create_task(publisher.run())
    await asyncio.wait_for(waiting, 20)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_protocol_events_count_as_well(publisher: Publisher, pool: Pool) -> None:
    run = Thread(pool).run_of()
    outlet, name = Outlet(publisher, run), Named.of(run)
    shown = frame(name, "event", "1", method="values", data="x" * (MAX_BACKLOG + 1))
    outlet.frames([shown])
    waiting = await waits(outlet)
    assert waiting is not None
    waiting.cancel()
