"""Who watches threads by the protocol: APIs say which, workers listen.

A run that was created over v1 yields protocol events only while somebody wants them; see docs/decisions.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, cast
from uuid import UUID

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from durathread.streams.cancellation import stop_if_cancelled

log = structlog.get_logger()

CHANNEL = "durathread:watched"
# The same as the channel says, for workers that begin to listen: threads by the time at which they are forgotten.
KEY = "durathread:watched:threads"
# How often what is watched is said again, and how long it is believed, in seconds.
AGAIN = 5.0
BELIEVED = 30.0
# How long a worker remembers that a thread was watched, in seconds: its runs are still shown to end.
REMEMBERED = 3600.0
# How long to wait before Valkey is asked again after it failed, in seconds.
LISTEN_RETRY = 0.25


class Interest:
    """What a worker knows of who watches."""

    def __init__(self, redis: "Redis") -> None:
        """Build one; `run` makes it listen."""
        self._redis = redis
        self._until: dict[str, float] = {}
        self._listeners: dict[str, list[Callable[[], Any]]] = {}
        self._deaf = False

    def __contains__(self, thread_id: str) -> bool:
        return self._until.get(thread_id, 0.0) > time.monotonic()

    def lately(self, thread_id: str) -> bool:
        """Whether somebody watches a thread, or has not long ago."""
        return thread_id in self._until

    @contextmanager
    def told(self, thread_id: str, watched: Callable[[], Any]) -> Generator[None]:
        """Call `watched`, on the worker's main loop, whenever somebody is said to watch a thread."""
        self._listeners.setdefault(thread_id, []).append(watched)
        try:
            yield
        finally:
            self._listeners[thread_id].remove(watched)
            if not self._listeners[thread_id]:
                self._listeners.pop(thread_id, None)

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(CHANNEL)
                    stop_if_cancelled()
                    known = cast(list[bytes], await self._redis.zrangebyscore(KEY, time.time(), "+inf"))
                    stop_if_cancelled()
                    self._note([thread_id.decode() for thread_id in known])
                    self._deaf = False
                    async for message in pubsub.listen():
                        self._hear(message["data"])
            except (RedisError, OSError) as error:
                if not self._deaf:
                    log.warning("Valkey is unavailable, who watches is not known", error=str(error))
                self._deaf = True
                await asyncio.sleep(LISTEN_RETRY)

    def _hear(self, data: bytes) -> None:
        try:
            thread_ids = [str(UUID(thread_id)) for thread_id in orjson.loads(data)]
        except (ValueError, TypeError, AttributeError):
            log.warning("Somebody else writes to our channel", channel=CHANNEL)
        else:
            self._note(thread_ids)

    def _note(self, thread_ids: list[str]) -> None:
        now = time.monotonic()
        self._until = {thread_id: until for thread_id, until in self._until.items() if until > now - REMEMBERED}
        for thread_id in thread_ids:
            self._until[thread_id] = now + BELIEVED
            for watched in list(self._listeners.get(thread_id, ())):
                # The loop that was to hear of it may have ended.
                with suppress(RuntimeError):
                    watched()


class Watchers:
    """What an API process has to say about who watches there."""

    def __init__(self, redis: "Redis") -> None:
        """Build one; `run` repeats what it says."""
        self._redis = redis
        self._counts: dict[str, int] = {}

    @asynccontextmanager
    async def watching(self, thread_id: str) -> AsyncGenerator[None]:
        """Let the workers know, before the block begins, that a thread is watched for as long as it lasts.

        Raises:
            RedisError: Valkey is unavailable.
        """
        self._counts[thread_id] = self._counts.get(thread_id, 0) + 1
        try:
            await self._say([thread_id])
            yield
        finally:
            self._counts[thread_id] -= 1
            if not self._counts[thread_id]:
                del self._counts[thread_id]

    async def run(self) -> None:
        """Say again what is watched, until cancelled."""
        while True:
            stop_if_cancelled()
            await asyncio.sleep(AGAIN)
            try:
                await self._say(list(self._counts))
            except (RedisError, OSError) as error:
                log.warning("Valkey is unavailable, who watches is not said", error=str(error))

    async def _say(self, thread_ids: list[str]) -> None:
        if not thread_ids:
            return
        now = time.time()
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zadd(KEY, dict.fromkeys(thread_ids, now + BELIEVED))
            pipe.zremrangebyscore(KEY, "-inf", now)
            pipe.publish(CHANNEL, orjson.dumps(thread_ids))
            await pipe.execute()
