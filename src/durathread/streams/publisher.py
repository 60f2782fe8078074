"""Puts the events of runs into Valkey: a portion at a time a process, with something of each run that has something to say."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from durathread.encode import dumps
from durathread.encryption import sealed
from durathread.process.lifecycle import Owner
from durathread.streams.cancellation import stop_if_cancelled
from durathread.streams.events import (
    END,
    FRAMES,
    GAP,
    NEWS,
    THREAD,
    WRITE,
    News,
    Said,
    end_data,
    state_key,
    stream_key,
    thread_subject,
)
from durathread.streams.frames import WRITE as WRITE_FRAMES
from durathread.streams.frames import Frame, frames_subject, gap

log = structlog.get_logger()

# How long a stream outlives its last event while its run works, in seconds.
ACTIVE_TTL = 7 * 86400
# What may wait for Valkey in a process, in bytes. A run that has more there than its share waits until it is less; while
# Valkey is away nobody waits, and what is more is dropped. A share is never less than this.
MAX_BACKLOG = 32 * 1024 * 1024
LEAST_SHARE = 256 * 1024
# What an event costs beside its data, in bytes.
OVERHEAD = 512
# What is sent at once, in bytes: as much as Valkey takes in good time, within these bounds. An event is sent whole.
LEAST_PORTION = 256 * 1024
FIRST_PORTION = 1024 * 1024
MOST_PORTION = 4 * 1024 * 1024
# A portion that took longer is followed by smaller ones, one that took half of it by larger ones, in seconds.
GOOD_TIME = 0.5
# How much a subject may add to a portion before it is the turn of the next, in bytes.
TURN = 64 * 1024
# How long events are kept for a Valkey that is away, and the time between two tries, in seconds.
KEPT = 30.0
WRITE_RETRY = 0.25


@dataclass(frozen=True, slots=True)
class _Told:
    """What is told to those who wait for a subject, and written nowhere."""

    status: str


@dataclass(frozen=True, slots=True)
class _Item:
    event: Said | Frame | _Told
    token: int
    size: int
    # When it was queued, by the loop's clock.
    since: float


@dataclass(eq=False)
class _Queue:
    """What there is to write of one subject."""

    subject: str
    items: deque[_Item] = field(default_factory=deque[_Item])
    # Those that are on their way.
    sent: list[_Item] = field(default_factory=list[_Item])
    # Of both.
    size: int = 0
    added: int = 0
    done: int = 0
    waiting: list[tuple[int, "asyncio.Future[None]"]] = field(default_factory=list[tuple[int, "asyncio.Future[None]"]])

    def add(self, item: _Item) -> None:
        self.items.append(item)
        self.size += item.size
        self.added += 1

    def settle(self, items: Sequence[_Item]) -> None:
        """Forget items, written or dropped, and let those go on who wait for them."""
        self.size -= sum(item.size for item in items)
        self.done += len(items)
        for number, future in self.waiting:
            if number <= self.done and not future.done():
                future.set_result(None)
        self.waiting = [pair for pair in self.waiting if not pair[1].done()]

    def release(self) -> None:
        """Let all go on who wait."""
        for _, future in self.waiting:
            if not future.done():
                future.set_result(None)
        self.waiting.clear()

    @property
    def oldest(self) -> float | None:
        """Since when the first of its items has waited."""
        first = self.sent[0] if self.sent else self.items[0] if self.items else None
        return first and first.since

    @property
    def told(self) -> str | None:
        """What is on its way to those who wait."""
        return next((item.event.status for item in reversed(self.sent) if isinstance(item.event, _Told)), None)

    @property
    def events(self) -> list[_Item]:
        """Those on their way that are written."""
        return [item for item in self.sent if not isinstance(item.event, _Told)]


@dataclass
class _Portion:
    """What is written at once."""

    queues: list[_Queue]
    size: int = 0

    @property
    def since(self) -> float:
        """Since when the oldest of it has waited."""
        return min(queue.sent[0].since for queue in self.queues)


class Publisher:
    """Collects events, and writes what has gathered whenever Valkey has taken the portion before.

    Each run has its turn in every portion, so what one says much of does not hold up the others. Valkey owns nothing that
    matters: while it is away nobody waits for it. What cannot be written is kept for some time.
    """

    def __init__(self, redis: "Redis", *, max_events: int, max_bytes: int, ttl: int) -> None:
        """Build a publisher that keeps `max_events` of `max_bytes` together a run, for `ttl` seconds after the run's end."""
        self.redis = redis
        self._bounds = max_events, max_bytes
        self._ttl = ttl
        self.loop = asyncio.get_running_loop()
        # Names our portions: Valkey takes each once, however often it is sent.
        self._writer = f"writer:{uuid4().hex}"
        self._number = 0
        self._queues: dict[str, _Queue] = {}
        # Of all queues, and of what is on its way.
        self._size = self._sending = 0
        self.most = FIRST_PORTION
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()
        # Since when Valkey has not taken what it was sent.
        self._failing: float | None = None
        self._closed = False

    def publish(self, subject: UUID | str, name: str, data: bytes) -> None:
        """Queue an event. Call on the publisher's loop."""
        self._extend([Said(str(subject), name, data)])

    def publish_soon(self, events: Sequence[Said]) -> None:
        """Queue events from any thread."""
        self.loop.call_soon_threadsafe(self._extend, events)

    def publish_frames(self, frames: Iterable[Frame], *, token: int = 0) -> None:
        """Queue protocol events, of an attempt at a run if there is a token. Call on the publisher's loop."""
        for frame in frames:
            self._add(frames_subject(frame.thread_id), frame, token=token)

    def publish_frames_soon(self, frames: Sequence[Frame], *, token: int = 0) -> None:
        """Queue protocol events from any thread."""
        self.loop.call_soon_threadsafe(lambda: self.publish_frames(frames, token=token))

    async def end(self, run_id: UUID | str, status: str, *, thread_id: UUID | str | None = None) -> None:
        """Write the event that ends a run's stream, and tell whoever waits for the run.

        Args:
            run_id: the run.
            status: how it has ended.
            thread_id: whose protocol events are waited for as well.
        """
        self.publish(run_id, END, dumps(end_data(run_id, status)))
        self.tell(str(run_id), status)
        await self.flush(str(run_id), *([frames_subject(thread_id), thread_subject(thread_id)] if thread_id else ()))

    def tell(self, subject: str, status: str) -> None:
        """Tell whoever waits for something other than the end of a run."""
        self._add(subject, _Told(status))

    def forget(self, thread_id: UUID | str) -> None:
        """Delete the streams of a thread that is gone, and end them for those who follow."""
        self.tell(thread_subject(thread_id), "deleted")
        self.tell(frames_subject(thread_id), "deleted")

    async def flush(self, *subjects: str) -> None:
        """Wait until all that is queued, or what is queued of these subjects, has been written, unless Valkey is away."""
        if self._failing is not None or self._closed:
            return
        queues = (
            [self._queues[each] for each in subjects if each in self._queues] if subjects else self._queues.values()
        )
        waiting = list[asyncio.Future[None]]()
        for queue in queues:
            if queue.added > queue.done:
                queue.waiting.append((queue.added, self.loop.create_future()))
                waiting.append(queue.waiting[-1][1])
        if waiting:
            await asyncio.wait(waiting)

    @property
    def away(self) -> bool:
        """Whether Valkey has not taken what it was last sent: better ask it nothing now."""
        return self._failing is not None

    @property
    def waiting(self) -> int:
        """How many events Valkey has not taken yet, those on their way included."""
        return sum(queue.added - queue.done for queue in self._queues.values())

    @property
    def lag(self) -> float:
        """How long the oldest of them has waited, in seconds."""
        oldest = min((queue.oldest for queue in self._queues.values() if queue.oldest is not None), default=None)
        return 0.0 if oldest is None else self.loop.time() - oldest

    async def room(self, *subjects: str) -> None:
        """Wait while Valkey has yet to take more of these subjects than is their share, unless it is away."""
        while self._failing is None and not self._closed:
            moved = self._moved
            own = sum(self._queues[each].size for each in subjects if each in self._queues)
            if own <= max(LEAST_SHARE, MAX_BACKLOG // max(1, len(self._queues))):
                return
            await moved.wait()

    def _extend(self, events: Iterable[Said]) -> None:
        for said in events:
            self._add(said.subject, said, token=said.token)

    def _add(self, subject: str, event: Said | Frame | _Told, *, token: int = 0) -> None:
        size = 0 if isinstance(event, _Told) else len(event.data) + OVERHEAD
        self._queues.setdefault(subject, _Queue(subject)).add(_Item(event, token, size, self.loop.time()))
        self._size += size
        if self._failing is not None and self._size - self._sending > MAX_BACKLOG:
            self._shed()
        self._wake.set()

    def _shed(self) -> None:
        """Drop what waits of who says the most."""
        queue = max(self._queues.values(), key=lambda each: sum(item.size for item in each.items))
        dropped = [item for item in queue.items if not isinstance(item.event, _Told)]
        queue.items = deque(item for item in queue.items if isinstance(item.event, _Told))
        self._leave_gap(queue, dropped)
        self._settle(queue, dropped)
        log.warning("Valkey is unavailable, events are dropped", events=len(dropped))

    def _leave_gap(self, queue: _Queue, dropped: Sequence[_Item]) -> None:
        """Say, where events were dropped, that they are missing."""
        first = next((item for item in dropped if not isinstance(item.event, _Told)), None)
        if first is None:
            return
        missing = gap(first.event) if isinstance(first.event, Frame) else Said(queue.subject, GAP, b"{}", first.token)
        queue.items.appendleft(_Item(missing, first.token, OVERHEAD, self.loop.time()))
        queue.size += OVERHEAD
        queue.added += 1
        self._size += OVERHEAD

    def _settle(self, queue: _Queue, items: Sequence[_Item]) -> None:
        self._size -= sum(item.size for item in items)
        queue.settle(items)
        if not queue.items and not queue.sent:
            self._queues.pop(queue.subject, None)

    async def run(self) -> None:
        """Write portions until cancelled. From then on nobody waits for it."""
        try:
            while True:
                stop_if_cancelled()
                self._wake.clear()
                portion = self._portion()
                if portion is None:
                    await self._wake.wait()
                    continue
                self._number += 1
                self._sending = portion.size
                await self._deliver(portion)
                self._sending = 0
                for queue in portion.queues:
                    sent, queue.sent = queue.sent, []
                    self._settle(queue, sent)
                self._move()
        finally:
            self._closed = True
            self._release()

    def _portion(self) -> _Portion | None:
        """Take what is to be written next: something of each subject in turn, until it is enough."""
        portion, served = _Portion([]), dict[str, _Queue]()
        turns = deque(self._queues.values())
        while turns and self._fits(turns[0].items[0], portion):
            queue = turns.popleft()
            served[queue.subject] = queue
            upto = portion.size + TURN
            while queue.items and (_goes_with(queue) or (portion.size < upto and self._fits(queue.items[0], portion))):
                queue.sent.append(queue.items.popleft())
                portion.size += queue.sent[-1].size
            if queue.items:
                turns.append(queue)
        for subject, queue in served.items():
            portion.queues.append(queue)
            # Next time they come after those that were not served now.
            self._queues[subject] = self._queues.pop(subject)
        return portion if served else None

    def _fits(self, item: _Item, portion: _Portion) -> bool:
        return not portion.size or portion.size + item.size <= self.most

    async def _deliver(self, portion: _Portion) -> None:
        """Write a portion: again and again while Valkey is away, as long as events are kept."""
        while True:
            began = self.loop.time()
            try:
                await self._write(portion)
            except (RedisError, OSError) as error:
                if self._failing is None:
                    log.warning("Valkey is unavailable, events wait", error=str(error))
                    self._failing = began
                # This portion stays what it is, as its number says what was written; the next is small.
                self.most = max(LEAST_PORTION, self.most // 2)
                self._release()
            else:
                if self._failing is not None:
                    log.info("Valkey is back")
                self._failing = None
                self._learn(portion, self.loop.time() - began)
                return
            if self.loop.time() - max(self._failing, portion.since) > KEPT:
                events = sum(len(queue.sent) for queue in portion.queues)
                log.warning("Valkey is unavailable, events are dropped", events=events)
                for queue in portion.queues:
                    self._leave_gap(queue, queue.sent)
                    # What is to be deleted is kept in mind, as long as it takes.
                    told = [item for item in queue.sent if isinstance(item.event, _Told)]
                    queue.sent = [item for item in queue.sent if not isinstance(item.event, _Told)]
                    queue.items.extendleft(reversed(told))
                return
            await asyncio.sleep(WRITE_RETRY)

    def _learn(self, portion: _Portion, took: float) -> None:
        """Send more at once if Valkey takes it, and less if the way to it is slow."""
        if took > GOOD_TIME:
            self.most = max(LEAST_PORTION, self.most // 2)
        elif took < GOOD_TIME / 2 and portion.size > self.most / 2:
            self.most = min(MOST_PORTION, self.most * 2)

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    def _release(self) -> None:
        for queue in self._queues.values():
            queue.release()
        self._move()

    async def _write(self, portion: _Portion) -> None:
        named = (self._writer, self._number)
        ended = {queue.subject: queue.told for queue in portion.queues if queue.told is not None}
        written = [queue for queue in portion.queues if queue.events]
        async with self.redis.pipeline(transaction=False) as pipe:
            for queue in written:
                keys = stream_key(queue.subject), state_key(queue.subject)
                fields = [part for item in queue.events for part in _fields(item)]
                if queue.subject.startswith(FRAMES):
                    pipe.eval(WRITE_FRAMES, 2, *keys, *self._bounds, ACTIVE_TTL, self._ttl, *named, *fields)
                else:
                    ttl = self._ttl if any(_is_end(item) for item in queue.sent) else ACTIVE_TTL
                    pipe.eval(WRITE, 2, *keys, *self._bounds, ttl, *named, *fields)
            for subject in ended:
                if subject.startswith((THREAD, FRAMES)):
                    pipe.delete(stream_key(subject), state_key(subject))
            pipe.publish(NEWS, News(tuple(queue.subject for queue in written), ended).encode())
            await pipe.execute()


def _goes_with(queue: _Queue) -> bool:
    """Whether the next is a part of what was taken last: a script writes all of a history, or none."""
    event = queue.items[0].event
    return bool(queue.sent) and isinstance(event, Frame) and event.kind in ("catch_up", "history")


def _is_end(item: _Item) -> bool:
    return isinstance(item.event, Said) and item.event.name == END


def _fields(item: _Item) -> Iterable[int | bytes]:
    event = item.event
    if isinstance(event, Frame):
        names = (event.run_id, event.kind, event.event_id, event.name)
        return item.token, *(_text(each) for each in names), sealed(event.data)
    assert isinstance(event, Said)
    return item.token, _text(event.name), sealed(event.data)


def _text(value: str) -> bytes:
    """Encode a name, which may be a user's, and hold halves of surrogate pairs."""
    return value.encode("utf-8", "replace")


@asynccontextmanager
async def open_publisher(
    redis: "Redis", owner: Owner, *, max_events: int, max_bytes: int, ttl: int
) -> AsyncGenerator[Publisher]:
    """Run a publisher for as long as the block lasts, and write what is left at its end."""
    publisher = Publisher(redis, max_events=max_events, max_bytes=max_bytes, ttl=ttl)
    async with owner.keeping(publisher.run(), name="publisher"):
        yield publisher
        await asyncio.wait_for(publisher.flush(), 5)
