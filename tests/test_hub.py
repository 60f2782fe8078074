"""The hub's own life, streams aside."""

import asyncio
from collections.abc import Collection

from redis.asyncio import Redis

from durathread.embedded.engines import Engines
from durathread.streams.hub import open_hub


async def statuses(subjects: Collection[str]) -> dict[str, str | None]:
    """Know of no run."""
    return {}


async def opened(redis: "Redis", turns: int) -> None:
    """Open a hub for so many turns of the event loop."""
    async with open_hub(redis, statuses):
        for _ in range(turns):
            await asyncio.sleep(0)


async def test_a_hub_that_is_closed_while_it_connects_ends(engine_set: Engines) -> None:
    for turns in range(80):
        redis = Redis.from_url(engine_set.redis_url)
        ended, _ = await asyncio.wait([asyncio.create_task(opened(redis, turns))], timeout=30)
        assert ended, f"not after {turns} turns"
        await redis.aclose()
