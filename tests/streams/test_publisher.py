"""The publisher, and a Valkey that freezes."""

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any, cast
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from durathread.embedded import folder as folders
from durathread.embedded.ports import free_port
from durathread.embedded.valkey import Valkey
from durathread.process.lifecycle import Owner
from durathread.streams.events import Said, state_key, stream_key
from durathread.streams.frames import Kind, Named, frame, frames_subject, running
from durathread.streams.publisher import LEAST_PORTION, MOST_PORTION, Publisher, open_publisher
from durathread.streams.valkey import connect
from tests.eventually import eventually
from tests.proxy import slow


@pytest.fixture(scope="module")
async def valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Valkey]:
    """A Valkey of these tests' own."""
    with folders.opened(tmp_path_factory.mktemp("valkey")) as folder:
        server = Valkey(folder, port=free_port())
        await server.start()
        yield server
        await server.stop()


@pytest.fixture
async def redis(valkey: Valkey) -> AsyncIterator["Redis"]:
    async with connect(valkey.url) as client:
        yield client


@pytest.fixture
async def publisher(redis: "Redis") -> AsyncIterator[Publisher]:
    async with open_publisher(redis, Owner(), max_events=1000, max_bytes=10**9, ttl=60) as opened:
        yield opened


async def names(redis: "Redis", subject: str) -> list[str]:
    """List what stands in a stream."""
    found: Any = await redis.xrange(stream_key(subject))
    return [fields[b"e"].decode() for _, fields in found]


async def test_an_attempt_that_was_superseded_is_not_heard(publisher: Publisher, redis: "Redis") -> None:
    run_id = str(uuid4())
    for name, token in (("first", 1001), ("second", 1002), ("late", 1001), ("ours", 0), ("third", 2001), ("old", 1002)):
        publisher.publish_soon([Said(run_id, name, b"{}", token)])
    await asyncio.sleep(0)
    await publisher.end(run_id, "success")
    publisher.publish_soon([Said(run_id, "stubborn", b"{}", 2001)])
    await asyncio.sleep(0)
    await publisher.end(run_id, "success")
    assert await names(redis, run_id) == ["first", "second", "ours", "third", "end"]
    # What is late does not make a stream live longer either.
    assert 0 < await redis.ttl(stream_key(run_id)) <= 60
    assert 0 < await redis.ttl(state_key(run_id)) <= 60


async def test_frames_of_an_attempt_that_was_superseded_are_not_written(publisher: Publisher, redis: "Redis") -> None:
    run = Named(str(uuid4()), str(uuid4()))

    def say(name: str, token: int) -> None:
        publisher.publish_frames([frame(run, "event", name, method="custom", channel=name, data={})], token=token)

    publisher.publish_frames([running(run, "agent")], token=1001)
    say("first", 1001)
    say("second", 1002)
    say("late", 1001)
    say("third", 2001)
    await publisher.flush()
    assert await names(redis, frames_subject(run.thread_id)) == ["lifecycle", "first", "second", "third"]


async def test_nobody_waits_for_a_frozen_valkey_and_each_event_comes_once_when_it_thaws(
    valkey: Valkey, publisher: Publisher, redis: "Redis"
) -> None:
    subject, run = str(uuid4()), Named(str(uuid4()), str(uuid4()))
    publisher.publish(subject, "before", b"{}")
    await publisher.flush()
    expected = ["before"]
    valkey.send(signal.SIGSTOP)
    try:
        async with asyncio.timeout(20):
            for number in range(50):
                publisher.publish(subject, f"e{number}", b"{}")
                publisher.publish_frames([frame(run, "event", str(number), method="custom", data=number)])
                expected.append(f"e{number}")
                # The first is given up; from then on nobody waits, and much is sent again and again.
                await publisher.flush()
                await asyncio.sleep(0.02)
    finally:
        valkey.send(signal.SIGCONT)

    async def written() -> bool:
        return len(await names(redis, subject)) >= len(expected)

    await eventually(written)
    publisher.publish(subject, "after", b"{}")
    await publisher.flush()
    assert await names(redis, subject) == [*expected, "after"]
    assert len(await names(redis, frames_subject(run.thread_id))) == 50


async def test_what_cannot_be_kept_is_dropped_of_who_says_the_most(
    valkey: Valkey, publisher: Publisher, redis: "Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durathread.streams.publisher.MAX_BACKLOG", 10_000)
    loud, quiet = str(uuid4()), str(uuid4())
    valkey.kill()
    await valkey.wait()
    publisher.publish(loud, "first", b"{}")
    await publisher.flush()
    assert publisher.away
    publisher.publish(quiet, "only", b"{}")
    for number in range(100):
        publisher.publish(loud, f"e{number}", b"1" * 1000)
    publisher.tell(loud, "error")
    async with asyncio.timeout(10):
        await publisher.room(loud)
    assert publisher.waiting < 20
    await valkey.start()

    async def back() -> bool:
        publisher.publish(loud, "after", b"{}")
        await publisher.flush()
        return "after" in await names(redis, loud)

    await eventually(back)
    assert await names(redis, quiet) == ["only"]
    written = await names(redis, loud)
    assert written[0] == "first"
    # Who reads is told that there was more.
    assert "gap" in written
    assert len(written) < 20


async def test_what_one_run_says_much_of_does_not_hold_up_another(publisher: Publisher, redis: "Redis") -> None:
    loud, quiet, thread_id = str(uuid4()), str(uuid4()), str(uuid4())
    big = b'"' + b"x" * 1024 * 1024 + b'"'
    for number in range(40):
        publisher.publish(loud, f"e{number}", big)
    publisher.publish(quiet, "token", b"{}")
    publisher.publish_frames([running(Named(thread_id, quiet), "agent")])
    await publisher.end(quiet, "success", thread_id=thread_id)
    assert publisher.waiting > 20
    assert await names(redis, quiet) == ["token", "end"]
    assert await names(redis, frames_subject(thread_id)) == ["lifecycle"]
    await publisher.flush()
    assert await names(redis, loud) == [f"e{number}" for number in range(40)]


async def test_events_pass_a_slow_way_to_valkey(valkey: Valkey) -> None:
    subject = str(uuid4())
    # At once these would take longer than Valkey is waited for.
    async with (
        slow(valkey.url, 2 * 1024 * 1024) as url,
        connect(url) as redis,
        open_publisher(redis, Owner(), max_events=1000, max_bytes=10**9, ttl=60) as publisher,
    ):
        for number in range(24):
            publisher.publish(subject, f"e{number}", b"1" * 256 * 1024)

        async def written() -> bool:
            return not publisher.waiting

        await eventually(written, timeout=25)
    async with connect(valkey.url) as redis:
        assert await names(redis, subject) == [f"e{number}" for number in range(24)]


@pytest.mark.parametrize("first", ["begin", "history"])
async def test_frames_that_belong_together_are_written_together_whatever_their_size(
    publisher: Publisher, redis: "Redis", first: Kind
) -> None:
    """A script writes all of a history, or nothing: what is written later finds that there is one."""
    run = Named(str(uuid4()), str(uuid4()))
    then: Kind = "catch_up" if first == "begin" else "history"
    for _ in range(30):
        publisher.publish(str(uuid4()), "other", b"1" * 100_000)
    publisher.publish_frames(
        [
            frame(run, first, "0", method="lifecycle", data={}),
            *(frame(run, then, f"{number}", method="values", data="x" * 700_000) for number in range(1, 4)),
        ]
    )
    await publisher.flush()
    assert await names(redis, frames_subject(run.thread_id)) == ["lifecycle", "values", "values", "values"]


async def test_a_valkey_that_has_become_slow_is_sent_less_at_once(valkey: Valkey) -> None:
    subject = str(uuid4())
    async with (
        slow(valkey.url, 512 * 1024) as url,
        connect(url) as redis,
        open_publisher(redis, Owner(), max_events=1000, max_bytes=10**9, ttl=60) as publisher,
    ):
        publisher.most = MOST_PORTION
        for number in range(12):
            publisher.publish(subject, f"e{number}", b"1" * 256 * 1024)

        async def learned() -> bool:
            return publisher.most == LEAST_PORTION

        await eventually(learned)


async def test_a_stream_keeps_within_its_bounds_and_its_newest_event_whatever_its_size(redis: "Redis") -> None:
    subject, large = str(uuid4()), b'"' + b"x" * 998 + b'"'
    async with open_publisher(redis, Owner(), max_events=20, max_bytes=5000, ttl=60) as publisher:
        for number in range(30):
            publisher.publish(subject, f"small{number}", b"{}")
        await publisher.flush()
        assert await names(redis, subject) == [f"small{number}" for number in range(10, 30)]
        for number in range(8):
            publisher.publish(subject, f"large{number}", large)
            await publisher.flush()
        assert await names(redis, subject) == [f"large{number}" for number in range(3, 8)]
        publisher.publish(subject, "huge", b'"' + b"x" * 10_000 + b'"')
        await publisher.flush()
        assert await names(redis, subject) == ["huge"]
        # What was counted is what is there.
        publisher.publish(subject, "after", b"{}")
        await publisher.flush()
        assert await names(redis, subject) == ["after"]
        assert await cast(Any, redis.hget(state_key(subject), "bytes")) == b"2"


async def test_the_frames_of_a_thread_keep_within_the_same_bounds(redis: "Redis") -> None:
    run = Named(str(uuid4()), str(uuid4()))
    async with open_publisher(redis, Owner(), max_events=20, max_bytes=5000, ttl=60) as publisher:
        publisher.publish_frames([running(run, "agent")])
        for number in range(10):
            publisher.publish_frames([frame(run, "event", f"e{number}", method="values", data="x" * 900)])
            await publisher.flush()
        found: Any = await redis.xrange(stream_key(frames_subject(run.thread_id)))
    sizes = [len(fields[b"d"]) for _, fields in found]
    assert 3000 < sum(sizes) <= 5000
    assert [entry for entry, _ in found] == [b"%d-0" % seq for seq in range(12 - len(sizes), 12)]


async def test_names_with_halves_of_surrogate_pairs_end_nothing(publisher: Publisher, redis: "Redis") -> None:
    subject, run = str(uuid4()), Named(str(uuid4()), str(uuid4()))
    publisher.publish(subject, "custom|\ud800", b"{}")
    publisher.publish_frames(
        [frame(run, "event", "1", method="custom", channel="custom:\ud800x", data={"\udfff": "\ud800"})]
    )
    publisher.publish(subject, "after", b"{}")
    await asyncio.wait_for(publisher.flush(), 10)
    assert await names(redis, subject) == ["custom|?", "after"]
    assert await names(redis, frames_subject(run.thread_id)) == ["custom:?x"]


async def test_what_valkey_has_not_taken_is_counted_with_its_age(
    publisher: Publisher, valkey: Valkey, redis: "Redis"
) -> None:
    assert (publisher.waiting, publisher.lag) == (0, 0.0)
    valkey.send(signal.SIGSTOP)
    try:
        publisher.publish(uuid4(), "first", b"{}")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        publisher.publish(uuid4(), "second", b"{}")
        assert publisher.waiting == 2

        async def ages() -> bool:
            return publisher.lag > 0.2

        await eventually(ages)
    finally:
        valkey.send(signal.SIGCONT)

    async def taken() -> bool:
        return publisher.waiting == 0

    await eventually(taken)
    assert publisher.lag == 0.0
