"""The hub's own life, streams aside."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from pathlib import Path
from typing import Any, Self, cast
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from durathread.api.services.rest import resting, resting_frames
from durathread.embedded import folder as folders
from durathread.embedded.engines import Engines
from durathread.embedded.ports import free_port
from durathread.embedded.valkey import Valkey
from durathread.encode import dumps
from durathread.errors import Unavailable
from durathread.process.lifecycle import Owner
from durathread.streams import presence
from durathread.streams.events import END, GAP, Event, News, end_data, stream_key
from durathread.streams.frames import Named, over
from durathread.streams.hub import FIRST_PAGE, Hub, open_hub
from durathread.streams.presence import Interest, Watchers
from durathread.streams.publisher import Publisher
from durathread.streams.valkey import connect


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


class Losing:
    """A client of Valkey that loses a cancellation, as Python 3.11 may when it comes while a command is sent."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def lose(self, *_: Any, **__: Any) -> list[Any]:
        self.asked.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()
        return []

    zrangebyscore = execute = lose

    def pipeline(self, **_: Any) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        # A command that joins the pipeline.
        return lambda *_, **__: self


async def test_the_reader_of_a_run_ends_with_the_last_who_watches_even_if_its_cancellation_is_lost() -> None:
    redis = Losing()
    hub = Hub(cast(Any, redis), statuses)
    watching = asyncio.ensure_future(anext(hub.events("watched")))
    await redis.asked.wait()
    [reader] = [task for task in asyncio.all_tasks() if task.get_name() == "reader watched"]
    watching.cancel()
    await asyncio.wait([watching, reader], timeout=30)
    assert reader.done()


async def say_who_watches(redis: Any) -> None:
    watchers = Watchers(redis)
    async with watchers.watching("thread"):
        await watchers.run()


async def publish(redis: Any) -> None:
    publisher = Publisher(redis, max_events=10, max_bytes=1000, ttl=10)
    publisher.publish("run", "values", b"1")
    await publisher.run()


@pytest.mark.parametrize("part", [publish, say_who_watches])
async def test_a_part_of_the_process_ends_when_cancelled_even_if_that_is_lost(
    part: Callable[[Any], Coroutine[Any, Any, None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "AGAIN", 0)
    redis = Losing()
    working = asyncio.create_task(part(redis))
    await redis.asked.wait()
    working.cancel()
    await asyncio.wait([working], timeout=30)
    assert working.done()


async def test_who_comes_after_the_end_sees_what_was_still_on_its_way(engine_set: Engines) -> None:
    """A run's row says that it has ended before its last events have come to Valkey."""
    run_id = str(uuid4())

    async def add(name: str, data: bytes) -> None:
        await redis.xadd(stream_key(run_id), {"e": name, "d": data})

    async with connect(engine_set.redis_url) as redis, open_hub(redis, Owner(), statuses) as hub:
        await add("metadata", b'{"attempt":1}')
        events = hub.events(run_id, ended=True)
        seen = [await anext(events)]
        last = asyncio.ensure_future(anext(events))
        # What takes the stream for complete says so at once.
        await asyncio.wait([last], timeout=0.5)
        await add("values", b"2")
        await add(END, dumps(end_data(run_id, "success")))
        hub._tell(News((run_id,), {run_id: "success"}))  # pyright: ignore[reportPrivateUsage]
        seen += [await last, *[event async for event in events]]
    assert [(event.name, event.data) for event in seen[:2]] == [("metadata", b'{"attempt":1}'), ("values", b"2")]
    assert [event.name for event in seen[2:]] == [END]
    assert seen[2].event_id


async def test_the_end_of_a_run_that_has_left_none_is_made_up(engine_set: Engines) -> None:
    run_id = str(uuid4())

    async def know(subjects: Collection[str]) -> dict[str, str | None]:
        return dict.fromkeys(subjects, "success")

    async with connect(engine_set.redis_url) as redis, open_hub(redis, Owner(), know) as hub:
        await redis.xadd(stream_key(run_id), {"e": "metadata", "d": b'{"attempt":1}'})
        seen = [event async for event in hub.events(run_id, ended=True)]
    # Nobody knows what else was lost with it.
    assert [event.name for event in seen] == ["metadata", GAP, END]


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
    # That it has lost some is said once.
    assert seen.count(GAP) == (len(seen) <= len(kept))
    seen = [name for name in seen if name != GAP]
    assert seen[:FIRST_PAGE] == kept[:FIRST_PAGE]
    # As much as Valkey has kept, each once, in order.
    assert seen[FIRST_PAGE:-1] == kept[FIRST_PAGE : len(seen) - 1]


async def test_a_run_that_was_cut_ends_although_the_database_is_away() -> None:
    async def away(subjects: Collection[str]) -> dict[str, str | None]:
        raise Unavailable("The database is unavailable.")

    async def said() -> AsyncIterator[Event]:
        yield Event("1-0", "values", b"{}")
        yield Event("2-0", END, dumps(end_data(run_id, "interrupted")))

    async def frames() -> AsyncIterator[Event]:
        ended = over(Named(str(uuid4()), run_id), "completed", graph_name="agent", status="interrupted")
        yield Event("1-0", ended.name, ended.data)

    run_id = str(uuid4())
    hub = Hub(Redis(), away)
    assert [event.name async for event in resting(hub, run_id, said())] == ["values", END]
    assert [event.name async for event in resting_frames(hub, frames())] == ["lifecycle"]


async def test_a_listener_whose_loop_has_ended_ends_nothing(engine_set: Engines) -> None:
    loop, watched, thread_id = asyncio.new_event_loop(), asyncio.Event(), str(uuid4())
    loop.close()
    async with connect(engine_set.redis_url) as redis:
        listener, watchers = Interest(redis), Watchers(redis)
        listening = asyncio.create_task(listener.run())
        with (
            listener.told(thread_id, lambda: loop.call_soon_threadsafe(watched.set)),
            listener.told(thread_id, watched.set),
        ):
            async with watchers.watching(thread_id), asyncio.timeout(20):
                await watched.wait()
        assert not listening.done()
        listening.cancel()
        await asyncio.wait([listening])
