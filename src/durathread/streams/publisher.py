"""Puts the events of runs into Valkey: one batch at a time a process, however many runs write."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from durathread.encode import dumps
from durathread.streams.events import END, FRAMES, NEWS, THREAD, News, end_data, stream_key, thread_subject
from durathread.streams.frames import WRITE, Frame, frames_subject, state_key

log = structlog.get_logger()

# How long a stream outlives its last event while its run works, in seconds.
ACTIVE_TTL = 7 * 86400
# A run that is this many events ahead of Valkey waits for it.
MAX_BACKLOG = 5000


@dataclass
class _Batch:
    events: list[tuple[str, str, bytes]] = field(default_factory=list[tuple[str, str, bytes]])
    frames: dict[str, list[Frame]] = field(default_factory=dict[str, list[Frame]])
    ended: dict[str, str] = field(default_factory=dict[str, str])
    done: "asyncio.Future[None] | None" = None


class Publisher:
    """Collects events, and writes what has gathered whenever Valkey has taken the batch before.

    Valkey owns nothing that matters: while it is away events are dropped, and no run notices.
    """

    def __init__(self, redis: "Redis", *, max_events: int, ttl: int) -> None:
        """Build a publisher that keeps `max_events` a run, for `ttl` seconds after the run's end."""
        self.redis = redis
        self._max_events = max_events
        self._ttl = ttl
        self.loop = asyncio.get_running_loop()
        self._batch = _Batch()
        self._wake = asyncio.Event()
        self._failing = False

    def publish(self, run_id: UUID | str, name: str, data: bytes) -> None:
        """Queue an event. Call on the publisher's loop."""
        self._batch.events.append((str(run_id), name, data))
        self._wake.set()

    def publish_soon(self, events: list[tuple[str, str, bytes]]) -> None:
        """Queue events from any thread."""
        self.loop.call_soon_threadsafe(self._extend, events)

    def publish_frames(self, frames: Iterable[Frame]) -> None:
        """Queue protocol events. Call on the publisher's loop."""
        for frame in frames:
            self._batch.frames.setdefault(frames_subject(frame.thread_id), []).append(frame)
        self._wake.set()

    def publish_frames_soon(self, frames: Sequence[Frame]) -> None:
        """Queue protocol events from any thread."""
        self.loop.call_soon_threadsafe(self.publish_frames, frames)

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
        """Wait until all that is queued has been written, or dropped."""
        if not self._batch.events and not self._batch.frames:
            # Nothing queued, but a batch may be on its way: an empty one follows it.
            self._wake.set()
        if self._batch.done is None:
            self._batch.done = self.loop.create_future()
        await asyncio.shield(self._batch.done)

    @property
    def backlog(self) -> int:
        """How many events are queued."""
        return len(self._batch.events) + sum(map(len, self._batch.frames.values()))

    def _extend(self, events: list[tuple[str, str, bytes]]) -> None:
        self._batch.events.extend(events)
        self._wake.set()

    async def run(self) -> None:
        """Write batches until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._batch = self._batch, _Batch()
            try:
                if batch.events or batch.frames or batch.ended:
                    await self._write(batch)
            except (RedisError, OSError) as error:
                if not self._failing:
                    log.warning("Valkey is unavailable, events are dropped", error=str(error))
                self._failing = True
            finally:
                if batch.done is not None and not batch.done.done():
                    batch.done.set_result(None)

    async def _write(self, batch: _Batch) -> None:
        touched: dict[str, None] = {}
        async with self.redis.pipeline(transaction=False) as pipe:
            for run_id, name, data in batch.events:
                touched[run_id] = None
                pipe.xadd(stream_key(run_id), {"e": name, "d": data}, maxlen=self._max_events, approximate=True)
            for run_id in touched:
                pipe.expire(stream_key(run_id), self._ttl if run_id in batch.ended else ACTIVE_TTL)
            for subject, frames in batch.frames.items():
                touched[subject] = None
                fields = (part for f in frames for part in (f.run_id, f.kind, f.event_id, f.name, f.data))
                bounds = (self._max_events, ACTIVE_TTL, self._ttl)
                pipe.eval(WRITE, 2, stream_key(subject), state_key(subject), *bounds, *fields)
            for subject in batch.ended:
                if subject.startswith(THREAD):
                    pipe.delete(stream_key(subject))
                elif subject.startswith(FRAMES):
                    pipe.delete(stream_key(subject), state_key(subject))
            pipe.publish(NEWS, News(tuple(touched), batch.ended).encode())
            await pipe.execute()
        if self._failing:
            log.info("Valkey is back")
        self._failing = False


@asynccontextmanager
async def open_publisher(redis: "Redis", *, max_events: int, ttl: int) -> AsyncGenerator[Publisher]:
    """Run a publisher for as long as the block lasts, and write what is left at its end."""
    publisher = Publisher(redis, max_events=max_events, ttl=ttl)
    task = asyncio.create_task(publisher.run(), name="publisher")
    try:
        yield publisher
        await asyncio.wait_for(publisher.flush(), 5)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
