"""Follows the events of runs: one shared reader a process, however many clients watch."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Generator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from durathread.encode import dumps
from durathread.errors import Unavailable
from durathread.process.lifecycle import Owner
from durathread.streams.cancellation import stop_if_cancelled
from durathread.streams.events import END, GAP, NEWS, START, Event, News, end_data, stream_key
from durathread.streams.lost_events import Whole, gap_before, has_all_frames, has_all_marks, is_whole_run
from durathread.streams.read_pages import FIRST_PAGE, legible, newest_first, next_count

log = structlog.get_logger()

# Of the newest events of a run that somebody watches: what has been read once is handed to all who keep up.
KEPT_BYTES = 1024 * 1024
# How often the database is asked for the status of the runs that are watched, in seconds. It decides only when the news
# of an end was lost: with Valkey, or with the process that should have sent it.
AUDIT_INTERVAL = 2.0
# Events that a superseded run may have added after its end.
LATE = 20
# How long to wait before Valkey is asked again after it failed, in seconds.
READ_RETRY = 0.25

Statuses = Callable[[Collection[str]], Awaitable[dict[str, str | None]]]


@dataclass
class _Watch:
    """What this process knows of a run that somebody watches."""

    run_id: str
    news: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    status: str | None = None
    watchers: int = 0
    suspect: bool = False
    # The newest of what the shared reader has read, and how many events before them are not kept any more.
    log: deque[Event] = field(default_factory=deque[Event])
    dropped: int = 0
    size: int = 0
    grown: asyncio.Event = field(default_factory=asyncio.Event)
    reader: "asyncio.Task[None] | None" = None
    base: str = START
    closed: bool = False
    failure: BaseException | None = None

    def keep(self, event: Event) -> None:
        """Keep an event for those who keep up, and let go of old ones; they are still in Valkey."""
        self.log.append(event)
        self.size += len(event.data)
        while self.size > KEPT_BYTES and len(self.log) > 1:
            self.size -= len(self.log.popleft().data)
            self.dropped += 1

    def grow(self) -> None:
        self.grown.set()
        self.grown = asyncio.Event()

    def wake(self) -> None:
        self.news.set()
        if self.reader is None:
            self.grow()

    def read(self, reader: "asyncio.Task[None]") -> None:
        """Let those who watch fail with the reader."""
        if not reader.cancelled() and (error := reader.exception()) is not None:
            self.failure = error
            self.grow()

    def end(self, status: str) -> None:
        self.status = self.status or status
        self.ended.set()
        self.wake()


class Hub:
    """Hands the events of runs to those who watch, and tells who waits when a run has ended."""

    def __init__(self, redis: "Redis", statuses: Statuses) -> None:
        """Build a hub; `statuses` answers, for run ids, the final status, `deleted`, or None while in flight."""
        self._redis = redis
        self._statuses = statuses
        self._watches: dict[str, _Watch] = {}
        # Whether news cannot reach us.
        self._deaf = True

    async def ended(self, run_id: str) -> str:
        """Wait until a run has ended and return its status; `deleted` if its row is gone."""
        with self._watch(run_id) as watch:
            found = await self._statuses([run_id])
            if found.get(run_id):
                return str(found[run_id])
            await watch.ended.wait()
            return watch.status or "error"

    async def events(self, run_id: str, *, after: str = START, ended: bool = False) -> AsyncIterator[Event]:
        """Follow a run from just after an event id to its `end`, which is always the last. `GAP` stands where events are missing.

        Args:
            run_id: the run.
            after: the last event id that the client has. One that no event has yet is taken for the newest.
            ended: whether the run has ended before this call, by its row.
        """
        with self._watch(run_id) as watch:
            asked = after
            after, base = await self._place(run_id, after)
            if ended and await self._is_coming(run_id):
                # The row of a run has its end a moment before its stream. If it stays silent, the audit gives it up.
                watch.suspect = True
            elif ended:
                watch.ended.set()
                watch.news.set()
            if watch.reader is None:
                watch.base = base
                watch.reader = asyncio.create_task(self._read(watch), name=f"reader {run_id}")
                watch.reader.add_done_callback(watch.read)
            elif order(after) < order(watch.base):
                async for event in self._replay(run_id, after=after, until=watch.base):
                    yield event
                    after = event.event_id
            position = 0
            while True:
                grown = watch.grown
                async for event, number in self._kept(watch, position, after=after):
                    position = number
                    if order(event.event_id) > order(after):
                        after = event.event_id
                        yield event
                    if event.name == END:
                        return
                if watch.closed:
                    if (end := await self._lost_end(watch)) is not None:
                        if asked != START or after != START:
                            # Nobody knows what else went with it.
                            yield Event("", GAP, b"{}")
                        yield end
                    return
                if watch.failure is not None:
                    raise watch.failure
                await grown.wait()

    async def _kept(self, watch: _Watch, position: int, *, after: str) -> AsyncIterator[tuple[Event, int]]:
        """Read what is kept from a position on, each with the position after it; what is not kept any more, from Valkey.

        A client that falls behind holds a page of events, not all that happens meanwhile.
        """
        while position < watch.dropped + len(watch.log):
            if position >= watch.dropped:
                event = watch.log[position - watch.dropped]
                position += 1
                yield event, position
                after = max(after, event.event_id, key=order)
                continue
            behind, until = watch.dropped, watch.log[0].event_id
            try:
                async for event in self._replay(watch.run_id, after=after, until=until):
                    after = event.event_id
                    yield event, position
            except (RedisError, OSError) as error:
                log.warning("A stream waits", run_id=watch.run_id, error=str(error))
                await asyncio.sleep(READ_RETRY)
                continue
            position = behind

    async def _place(self, run_id: str, after: str) -> tuple[str, str]:
        """Return where a client goes on, and where the shared reader may begin for it: at no place that is still to come."""
        if after == START:
            return START, START
        try:
            reached = min(after, await self.tail(run_id), key=order)
        except (RedisError, OSError):
            return after, START
        return reached, reached

    async def marks(
        self, subject: str, *, after: str, lost: Callable[[str], Awaitable[bool]] | None = None
    ) -> AsyncGenerator[Event]:
        """Follow a thread's marks from just after one, until the thread is deleted. While Valkey is away, they wait.

        `GAP` stands where some are missing.

        Args:
            subject: whose marks.
            after: the last one that the client has.
            lost: says of a mark's id whether Valkey has forgotten it, and counts anew: the client then sees all there is.
                Marks that may be so are numbered without holes.
        """
        whole = has_all_marks if lost is None else has_all_frames
        with self._watch(subject) as watch:
            while True:
                grown, over = watch.grown, watch.ended.is_set()
                try:
                    if lost is not None and await lost(after):
                        after = START
                    async for event in self._replay(subject, after=after, whole=whole):
                        after = event.event_id
                        yield event
                except (RedisError, OSError) as error:
                    log.warning("A thread's stream waits", subject=subject, error=str(error))
                    if not over:
                        await asyncio.sleep(READ_RETRY)
                        continue
                if over:
                    return
                await grown.wait()

    def between(self, subject: str, *, after: str, until: str) -> AsyncIterator[Event]:
        """Read what a thread's frames are after one entry, up to another.

        Raises:
            RedisError: Valkey is unavailable.
        """
        return self._replay(subject, after=after, until=until, whole=has_all_frames)

    async def newest(self, subject: str, *, upto: str = "+", count: int = 1) -> list[Event]:
        """Read the newest entries of a stream, the newest first."""
        found = list[Event]()
        async with aclosing(newest_first(self._redis, stream_key(subject), upto=upto)) as entries:
            async for entry in entries:
                found.append(_event(*entry))
                if len(found) == count:
                    break
        return found

    async def is_over(self, run_id: str) -> bool:
        """Whether a run's stream has its end."""
        seen = 0
        async with aclosing(newest_first(self._redis, stream_key(run_id))) as entries:
            async for _, fields in entries:
                seen += 1
                if fields[b"e"] == END.encode() or seen == LATE:
                    return fields[b"e"] == END.encode()
        return False

    async def last(self, run_id: str, mode: str, *, before: str = "+") -> Event | None:
        """Find the newest event of a mode in a run's stream."""
        async with aclosing(newest_first(self._redis, stream_key(run_id), upto=before)) as entries:
            async for entry in entries:
                event = _event(*entry)
                if event.mode == mode and "|" not in event.name:
                    return event
        return None

    async def tail(self, run_id: str) -> str:
        """Return the id of the newest event of a run's stream."""
        page = _page(await self._redis.xrevrange(stream_key(run_id), "+", "-", count=1))
        return page[0][0].decode() if page else START

    async def before_end(self, run_id: str) -> str:
        """Return the id of the event just before the end of a run's stream."""
        events = await self.newest(run_id, count=2)
        if events and events[0].name == END:
            return events[1].event_id if len(events) > 1 else START
        return events[0].event_id if events else START

    async def run(self) -> None:
        """Listen for news, and audit, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(), name="news")
            group.create_task(self._audit(), name="audit")

    @contextmanager
    def _watch(self, run_id: str) -> Generator[_Watch]:
        watch = self._watches.setdefault(run_id, _Watch(run_id))
        watch.watchers += 1
        try:
            yield watch
        finally:
            watch.watchers -= 1
            if not watch.watchers:
                self._watches.pop(run_id, None)
                if watch.reader is not None:
                    watch.reader.cancel()

    async def _read(self, watch: _Watch) -> None:
        """Move a run's events from Valkey to the watch's log, until the end."""
        last = watch.base
        while True:
            stop_if_cancelled()
            watch.news.clear()
            was_over = watch.ended.is_set()
            try:
                async for event in self._replay(watch.run_id, after=last):
                    watch.keep(event)
                    # They have their turn while the next page is read.
                    watch.grow()
                    last = event.event_id
            except (RedisError, OSError) as error:
                log.warning("A stream is cut", run_id=watch.run_id, error=str(error))
                # Ids are times: what a restarted Valkey gets sorts after what it has lost.
                if not was_over:
                    await asyncio.sleep(READ_RETRY)
                    continue
            stop_if_cancelled()
            watch.grow()
            if watch.log and watch.log[-1].name == END:
                return
            if was_over:
                # The run is over and there is no `end`: the news of it was lost with Valkey.
                watch.closed = True
                watch.grow()
                return
            await watch.news.wait()

    async def _replay(
        self, subject: str, *, after: str, until: str = "+", whole: Whole = is_whole_run
    ) -> AsyncIterator[Event]:
        """Read a stream from just after an id. `whole` says whether all that followed it is still there."""
        count, told = FIRST_PAGE, None
        while True:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.xrange(stream_key(subject), "-", "+", count=1)
                pipe.xrange(stream_key(subject), f"({after}", until, count=count)
                found = await pipe.execute()
            stop_if_cancelled()
            first, page = _page(found[0]), _page(found[1])
            oldest = _event(*first[0]) if first else None
            if oldest and oldest != told and order(oldest.event_id) > order(after) and not whole(after, oldest):
                told = oldest
                yield gap_before(oldest)
            for raw_id, fields in page:
                event = _event(raw_id, fields)
                after = event.event_id
                yield event
                if event.name == END:
                    return
            if len(page) < count:
                return
            count = next_count(count, page)

    async def _is_coming(self, run_id: str) -> bool:
        """Whether a stream is there whose end is not: other events may be on their way as well."""
        try:
            return bool(await self.newest(run_id)) and not await self.is_over(run_id)
        except (RedisError, OSError):
            return False

    async def _lost_end(self, watch: _Watch) -> Event | None:
        """Build the end that an ended run's stream lacks; None if it is there, before where the client goes on."""
        with contextlib.suppress(RedisError, OSError):
            if await self.is_over(watch.run_id):
                return None
        status = watch.status or (await self._statuses([watch.run_id])).get(watch.run_id)
        return Event("", END, dumps(end_data(watch.run_id, status or "error")))

    async def _listen(self) -> None:
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(NEWS)
                    stop_if_cancelled()
                    self._deaf = False
                    self._wake_all()
                    async for message in pubsub.listen():
                        self._hear(message["data"])
            except (RedisError, OSError) as error:
                if not self._deaf:
                    log.warning("Valkey is unavailable, streams wait", error=str(error))
                self._deaf = True
                await asyncio.sleep(READ_RETRY)

    def _hear(self, data: bytes) -> None:
        try:
            news = News.decode(data)
        except (ValueError, LookupError, TypeError):
            log.warning("Somebody else writes to our channel", channel=NEWS)
        else:
            self._tell(news)

    def _tell(self, news: News) -> None:
        for run_id in news.runs:
            if watch := self._watches.get(run_id):
                # It is not silent: its end is on its way.
                watch.suspect = False
                watch.wake()
        for run_id, status in news.ended.items():
            if watch := self._watches.get(run_id):
                watch.end(status)

    def _wake_all(self) -> None:
        for watch in self._watches.values():
            watch.wake()

    async def _audit(self) -> None:
        while True:
            await asyncio.sleep(READ_RETRY if self._deaf else AUDIT_INTERVAL)
            open_runs = [run_id for run_id, watch in self._watches.items() if not watch.ended.is_set()]
            if not open_runs:
                continue
            try:
                found = await self._statuses(open_runs)
            except Unavailable:
                continue
            for run_id in open_runs:
                if not (watch := self._watches.get(run_id)) or not (status := found.get(run_id)):
                    continue
                # The row changes a moment before the news: only a run that stays silent was forgotten.
                if watch.suspect or self._deaf:
                    watch.end(status)
                watch.suspect = True


def _page(reply: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """Type what the client returns: bytes, since it is not told to decode."""
    return reply or []


def _event(raw_id: bytes, fields: dict[bytes, bytes]) -> Event:
    return Event(raw_id.decode(), fields[b"e"].decode(), legible(fields[b"d"]))


def order(event_id: str) -> tuple[int, int]:
    """Read an event id: its halves are numbers."""
    milliseconds, _, sequence = event_id.partition("-")
    return int(milliseconds), int(sequence or 0)


@asynccontextmanager
async def open_hub(redis: "Redis", owner: Owner, statuses: Statuses) -> AsyncGenerator[Hub]:
    """Run a hub for as long as the block lasts."""
    hub = Hub(redis, statuses)
    async with owner.keeping(hub.run(), name="hub"):
        yield hub
