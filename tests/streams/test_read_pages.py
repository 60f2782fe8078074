"""Streams are read in pages of about the same size, and nobody waits for all of them."""

from collections.abc import AsyncIterator, Collection
from contextlib import aclosing
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from durathread.embedded.engines import Engines
from durathread.process.lifecycle import Owner
from durathread.streams.events import stream_key
from durathread.streams.hub import open_hub
from durathread.streams.read_pages import PAGE, PAGE_BYTES, Entry, newest_first, next_count, oldest_first
from durathread.streams.valkey import connect
from tests.proxy import slow

SMALL = 40
LARGE = 6


async def statuses(subjects: Collection[str]) -> dict[str, str | None]:
    """Know of no run."""
    return {}


async def write(redis: "Redis", run_id: str, name: str, data: bytes, *, count: int) -> None:
    async with redis.pipeline(transaction=False) as pipe:
        for number in range(count):
            pipe.xadd(stream_key(run_id), {"e": f"{name}{number}", "d": data})
        await pipe.execute()


async def pages_read(redis: "Redis") -> int:
    """Count how often somebody has read a part of a stream."""
    stats: Any = await redis.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("xrange", "xrevrange"))


async def test_a_run_is_shown_while_its_stream_is_read(engine_set: Engines) -> None:
    run_id, total = str(uuid4()), 20_000
    async with connect(engine_set.redis_url) as redis, open_hub(redis, Owner(), statuses) as hub:
        await redis.xadd(stream_key(run_id), {"e": "metadata", "d": b'{"attempt":1}'})
        await write(redis, run_id, "e", b'"' + b"x" * 400 + b'"', count=total)
        before, seen = await pages_read(redis), list[str]()
        async with aclosing(hub.events(run_id)) as events:  # pyright: ignore[reportArgumentType]
            seen.append((await anext(events)).name)
            # Not the whole of it, which takes forty.
            assert await pages_read(redis) - before < 15
            while len(seen) <= total:
                seen.append((await anext(events)).name)
    assert seen == ["metadata", *(f"e{number}" for number in range(total))]


def test_a_page_is_as_large_as_the_last_lets_expect() -> None:
    def page(*sizes: int) -> Any:
        return [(b"1-0", {b"d": b"x" * size}) for size in sizes]

    assert next_count(1, page(10)) == 2
    assert next_count(PAGE, page(*[10] * PAGE)) == PAGE
    assert next_count(8, page(*[PAGE_BYTES] * 8)) == 1
    assert next_count(64, page(*[PAGE_BYTES // 32] * 64)) == 32


async def written(redis: "Redis") -> str:
    """Write a run whose large events come between small ones."""
    run_id = str(uuid4())
    await write(redis, run_id, "first", b"1", count=SMALL)
    await write(redis, run_id, "large", b"1" * 1024 * 1024, count=LARGE)
    await write(redis, run_id, "last", b"1", count=SMALL)
    return run_id


EXPECTED = [
    f"{name}{number}"
    for name, count in (("first", SMALL), ("large", LARGE), ("last", SMALL))
    for number in range(count)
]


async def names(entries: AsyncIterator[Entry]) -> list[str]:
    return [fields[b"e"].decode() async for _, fields in entries]


async def test_a_stream_is_read_from_both_ends(engine_set: Engines) -> None:
    async with connect(engine_set.redis_url) as redis:
        key = stream_key(await written(redis))
        assert await names(oldest_first(redis, key)) == EXPECTED
        assert await names(newest_first(redis, key)) == EXPECTED[::-1]


async def test_what_takes_too_long_at_once_is_read_one_by_one(
    engine_set: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(engine_set.redis_url) as redis:
        key = stream_key(await written(redis))
    monkeypatch.setattr("durathread.streams.valkey.SOCKET_TIMEOUT", 1.0)
    async with slow(engine_set.redis_url, 4 * 1024 * 1024) as url, connect(url) as redis:
        assert await names(newest_first(redis, key)) == EXPECTED[::-1]
