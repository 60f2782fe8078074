"""The hub's own life, streams aside."""

import asyncio
from collections.abc import Collection
from pathlib import Path
from uuid import uuid4

from redis.asyncio import Redis

from durathread.embedded import folder as folders
from durathread.embedded.engines import Engines
from durathread.embedded.ports import free_port
from durathread.embedded.valkey import Valkey
from durathread.lifecycle import Owner
from durathread.streams.connection import connect
from durathread.streams.events import stream_key
from durathread.streams.hub import FIRST_PAGE, open_hub


async def statuses(subjects: Collection[str]) -> dict[str, str | None]:
    """Know of no run."""
    return {}


async def opened(redis: "Redis", turns: int) -> None:
    """Open a hub for so many turns of the event loop."""
    async with open_hub(redis, Owner(), statuses):
        for _ in range(turns):
            await asyncio.sleep(0)


async def test_a_hub_that_is_closed_while_it_connects_ends(engine_set: Engines) -> None:
    for turns in range(80):
        redis = Redis.from_url(engine_set.redis_url)
        ended, _ = await asyncio.wait([asyncio.create_task(opened(redis, turns))], timeout=30)
        assert ended, f"not after {turns} turns"
        await redis.aclose()


async def test_marks_wait_while_valkey_is_away(tmp_path: Path) -> None:
    subject = str(uuid4())
    with folders.opened(tmp_path) as folder:
        valkey = Valkey(folder, port=free_port())
        await valkey.start()
        async with connect(valkey.url) as redis, open_hub(redis, Owner(), statuses) as hub:
            for number in range(1, FIRST_PAGE + 11):
                await redis.xadd(stream_key(subject), {"e": f"e{number}", "d": "{}"}, id=f"{number}-0")
            marks = hub.marks(subject, after="0-0")
            seen = [(await anext(marks)).name for _ in range(FIRST_PAGE)]
            # What is behind the first page has yet to be read, and there is nobody to ask.
            valkey.kill()
            await valkey.wait()
            coming = asyncio.ensure_future(anext(marks))
            await asyncio.wait([coming], timeout=1)
            assert not coming.done()
            await valkey.start()
            await redis.xadd(stream_key(subject), {"e": "after", "d": "{}"}, id="1000-0")
            seen.append((await coming).name)
            while seen[-1] != "after":
                seen.append((await anext(marks)).name)
            await marks.aclose()
        await valkey.stop()
    kept = [f"e{number}" for number in range(1, FIRST_PAGE + 11)]
    assert seen[:FIRST_PAGE] == kept[:FIRST_PAGE]
    # As much as Valkey has kept, each once, in order.
    assert seen[FIRST_PAGE:-1] == kept[FIRST_PAGE : len(seen) - 1]
