"""Puts the events of runs into Valkey: one batch at a time a process, however many runs write."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from durathread.encode import dumps
from durathread.lifecycle import Owner
from durathread.streams.cancellation import stop_if_cancelled
from durathread.streams.events import (
    END,
    FRAMES,
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
from durathread.streams.frames import Frame, frames_subject

log = structlog.get_logger()

# How long a stream outlives its last event while its run works, in seconds.
ACTIVE_TTL = 7 * 86400
# A run that is this many events ahead of Valkey waits for it; while Valkey is away no more than these are kept.
MAX_BACKLOG = 5000
# How long events are kept for a Valkey that is away, and the time between two tries, in seconds.
KEPT = 30.0
RETRY = 0.25


@dataclass
class _Batch:
    events: dict[str, list[Said]] = field(default_factory=dict[str, list[Said]])
    frames: dict[str, list[tuple[int, Frame]]] = field(default_factory=dict[str, list[tuple[int, Frame]]])
    ended: dict[str, str] = field(default_factory=dict[str, str])
    size: int = 0
    # When the first of them was queued, by the loop's clock.
    since: float | None = None
    done: "asyncio.Future[None] | None" = None

    def release(self) -> None:
        """Let those go on who wait for it."""
        if self.done is not None and not self.done.done():
            self.done.set_result(None)


class Publisher:
    """Collects events, and writes what has gathered whenever Valkey has taken the batch before.

    Valkey owns nothing that matters: while it is away nobody waits for it. What cannot be written is kept for some time.
    """

    def __init__(self, redis: "Redis", *, max_events: int, ttl: int) -> None:
        """Build a publisher that keeps `max_events` a run, for `ttl` seconds after the run's end."""
        self.redis = redis
        self._max_events = max_events
        self._ttl = ttl
        self.loop = asyncio.get_running_loop()
        # Names our batches: Valkey takes each once, however often it is sent.
        self._writer = f"writer:{uuid4().hex}"
        self._number = 0
        self._batch = _Batch()
        self._sent: _Batch | None = None
        self._wake = asyncio.Event()
        self._failing = False
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
            self._batch.frames.setdefault(frames_subject(frame.thread_id), []).append((token, frame))
            self._count()
        self._wake.set()

    def publish_frames_soon(self, frames: Sequence[Frame], *, token: int = 0) -> None:
        """Queue protocol events from any thread."""
        self.loop.call_soon_threadsafe(lambda: self.publish_frames(frames, token=token))

    async def end(self, run_id: UUID | str, status: str) -> None:
        """Write the event that ends a run's stream, and tell whoever waits for the run."""
        self.publish(run_id, END, dumps(end_data(run_id, status)))
        self._batch.ended[str(run_id)] = status
        await self.flush()

    def tell(self, subject: str, status: str) -> None:
        """Tell whoever waits for something other than the end of a run."""
        self._batch.ended[subject] = status
        self._wake.set()

    def forget(self, thread_id: UUID | str) -> None:
        """Delete the streams of a thread that is gone, and end them for those who follow."""
        self.tell(thread_subject(thread_id), "deleted")
        self.tell(frames_subject(thread_id), "deleted")

    async def flush(self) -> None:
        """Wait until all that is queued has been written, unless Valkey is away."""
        # Nothing may be queued, but a batch be on its way: an empty one follows it.
        self._wake.set()
        if self._failing or self._closed:
            return
        if self._batch.done is None:
            self._batch.done = self.loop.create_future()
        await asyncio.shield(self._batch.done)

    @property
    def away(self) -> bool:
        """Whether Valkey has not taken what it was last sent: better ask it nothing now."""
        return self._failing

    @property
    def backlog(self) -> int:
        """How many events are queued."""
        return self._batch.size

    @property
    def waiting(self) -> int:
        """How many events Valkey has not taken yet, those on their way included."""
        return self._batch.size + (self._sent.size if self._sent else 0)

    @property
    def lag(self) -> float:
        """How long the oldest of them has waited, in seconds."""
        since = self._sent.since if self._sent and self._sent.since is not None else self._batch.since
        return 0.0 if since is None else self.loop.time() - since

    async def room(self) -> None:
        """Wait until Valkey is not too far behind, unless it is away."""
        while self.backlog > MAX_BACKLOG and not self._failing and not self._closed:
            await self.flush()

    def _extend(self, events: Iterable[Said]) -> None:
        for said in events:
            self._batch.events.setdefault(said.subject, []).append(said)
            self._count()
        self._wake.set()

    def _count(self) -> None:
        self._batch.size += 1
        if self._batch.since is None:
            self._batch.since = self.loop.time()

    async def run(self) -> None:
        """Write batches until cancelled. From then on nobody waits for it."""
        try:
            while True:
                stop_if_cancelled()
                await self._wake.wait()
                self._wake.clear()
                batch, self._batch = self._batch, _Batch()
                self._sent = batch
                self._number += 1
                try:
                    if batch.size or batch.ended:
                        await self._deliver(batch)
                finally:
                    self._sent = None
                    batch.release()
        finally:
            self._closed = True
            self._batch.release()

    async def _deliver(self, batch: _Batch) -> None:
        """Write a batch: again and again while Valkey is away, as long as what gathers meanwhile can be kept."""
        end = self.loop.time() + KEPT
        while True:
            try:
                await self._write(batch)
            except (RedisError, OSError) as error:
                if not self._failing:
                    log.warning("Valkey is unavailable, events wait", error=str(error))
                self._failing = True
                batch.release()
                self._batch.release()
            else:
                if self._failing:
                    log.info("Valkey is back")
                self._failing = False
                return
            if batch.size + self._batch.size > MAX_BACKLOG or self.loop.time() > end:
                log.warning("Valkey is unavailable, events are dropped", events=batch.size)
                return
            await asyncio.sleep(RETRY)

    async def _write(self, batch: _Batch) -> None:
        named = (self._writer, self._number)
        async with self.redis.pipeline(transaction=False) as pipe:
            for subject, events in batch.events.items():
                ttl = self._ttl if subject in batch.ended else ACTIVE_TTL
                fields = (part for said in events for part in (said.token, _text(said.name), said.data))
                pipe.eval(WRITE, 2, stream_key(subject), state_key(subject), self._max_events, ttl, *named, *fields)
            for subject, frames in batch.frames.items():
                fields = (
                    part
                    for token, f in frames
                    for part in (token, *(_text(each) for each in (f.run_id, f.kind, f.event_id, f.name)), f.data)
                )
                bounds = (self._max_events, ACTIVE_TTL, self._ttl)
                pipe.eval(WRITE_FRAMES, 2, stream_key(subject), state_key(subject), *bounds, *named, *fields)
            for subject in batch.ended:
                if subject.startswith((THREAD, FRAMES)):
                    pipe.delete(stream_key(subject), state_key(subject))
            pipe.publish(NEWS, News((*batch.events, *batch.frames), batch.ended).encode())
            await pipe.execute()


def _text(value: str) -> bytes:
    """Encode a name, which may be a user's, and hold halves of surrogate pairs."""
    return value.encode("utf-8", "replace")


@asynccontextmanager
async def open_publisher(redis: "Redis", owner: Owner, *, max_events: int, ttl: int) -> AsyncGenerator[Publisher]:
    """Run a publisher for as long as the block lasts, and write what is left at its end."""
    publisher = Publisher(redis, max_events=max_events, ttl=ttl)
    async with owner.keeping(publisher.run(), name="publisher"):
        yield publisher
        await asyncio.wait_for(publisher.flush(), 5)
