"""What is written of a thread's events, and what is not: the script that numbers them, on a Valkey."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from durathread.embedded.engines import Engines
from durathread.process.lifecycle import Owner
from durathread.streams.closing_frames import halted, left_open
from durathread.streams.events import state_key, stream_key
from durathread.streams.frames import Frame, Kind, Named, frame, frames_subject, last_seq
from durathread.streams.publisher import Publisher, open_publisher
from durathread.streams.valkey import connect


@pytest.fixture
async def redis(engine_set: Engines) -> AsyncIterator["Redis"]:
    async with connect(engine_set.redis_url) as client:
        yield client


@pytest.fixture
async def publisher(redis: "Redis") -> AsyncIterator[Publisher]:
    async with open_publisher(redis, Owner(), max_events=1000, max_bytes=1_000_000, ttl=60) as opened:
        yield opened


@pytest.fixture
def run(thread_id: str) -> Named:
    return Named(thread_id, str(uuid4()))


def said(run: Named, kind: Kind, name: str) -> Frame:
    return frame(run, kind, f"{run.run_id}-{name}", method="custom", channel=name, data={"graph_name": "g"})


async def written(publisher: Publisher, thread_id: str) -> list[str]:
    """Read what is there, and that it is numbered without a gap."""
    await publisher.flush()
    found: Any = await publisher.redis.xrange(stream_key(frames_subject(thread_id)))
    assert [entry_id for entry_id, _ in found] == [b"%d-0" % number for number in range(1, len(found) + 1)]
    assert await last_seq(publisher.redis, thread_id) == len(found)
    return [fields[b"e"].decode() for _, fields in found]


async def say(publisher: Publisher, run: Named, *what: tuple[Kind, str]) -> list[str]:
    publisher.publish_frames([said(run, kind, name) for kind, name in what])
    return await written(publisher, run.thread_id)


async def test_a_run_begins_once_and_shows_its_state_beside_that(publisher: Publisher, run: Named) -> None:
    await say(publisher, run, ("begin", "begun"), ("catch_up", "state"))
    found = await say(publisher, run, ("begin", "again"), ("catch_up", "later"), ("event", "on"))
    assert found == ["begun", "state", "on"]


async def test_what_comes_once_comes_once(publisher: Publisher, run: Named) -> None:
    await say(publisher, run, ("begin", "begun"), ("once", "asked"))
    assert await say(publisher, run, ("once", "asked"), ("once", "other")) == ["begun", "asked", "other"]


async def test_nothing_follows_the_end(publisher: Publisher, run: Named) -> None:
    kinds: list[Kind] = ["begin", "catch_up", "event", "once", "close", "end", "finish", "history"]
    await say(publisher, run, ("begin", "begun"), ("end", "ended"))
    late: list[tuple[Kind, str]] = [(kind, f"late {kind}") for kind in kinds]
    assert await say(publisher, run, *late) == ["begun", "ended"]


async def test_only_what_closes_follows_a_halt(publisher: Publisher, run: Named) -> None:
    await say(publisher, run, ("begin", "begun"), ("close", "too early"))
    assert await left_open(publisher.redis, run.thread_id) == [run.run_id]
    for _ in range(2):
        assert await halted(publisher.redis, run) is not None
        found = await say(publisher, run, ("begin", "again"), ("event", "late"), ("once", "late"), ("catch_up", "late"))
        assert found == ["begun"]
    assert await left_open(publisher.redis, run.thread_id) == [run.run_id]
    found = await say(publisher, run, ("close", "closed"), ("end", "ended"), ("close", "twice"), ("end", "twice"))
    assert found == ["begun", "closed", "ended"]
    assert await halted(publisher.redis, run) is None
    assert await left_open(publisher.redis, run.thread_id) == []


async def test_a_run_that_never_began_has_no_end_unless_somebody_waits_for_it(publisher: Publisher, run: Named) -> None:
    assert await halted(publisher.redis, run) is None
    publisher.publish_frames([said(run, "end", "ended")])
    await publisher.flush()
    assert not await publisher.redis.exists(stream_key(frames_subject(run.thread_id)))
    assert await say(publisher, run, ("finish", "finished"), ("finish", "twice")) == ["finished"]


async def test_a_history_is_written_where_nothing_is(publisher: Publisher, run: Named) -> None:
    assert await say(publisher, run, ("history", "one"), ("history", "two")) == ["one", "two"]
    assert await say(publisher, run, ("history", "three")) == ["one", "two"]


async def test_numbers_go_on_behind_events_that_are_gone(publisher: Publisher, run: Named) -> None:
    await say(publisher, run, ("begin", "begun"), ("end", "ended"))
    await publisher.redis.delete(stream_key(frames_subject(run.thread_id)))
    other = Named(run.thread_id, str(uuid4()))
    publisher.publish_frames([said(other, "begin", "next")])
    await publisher.flush()
    assert await last_seq(publisher.redis, run.thread_id) == 3
    # Lost by itself, the counter is found again by what there is.
    await publisher.redis.delete(state_key(frames_subject(run.thread_id)))
    publisher.publish_frames([said(Named(run.thread_id, str(uuid4())), "begin", "third")])
    await publisher.flush()
    assert await last_seq(publisher.redis, run.thread_id) == 4
