"""What a thread's frames say about the graphs of one run."""

from typing import Any

from redis.asyncio import Redis

from durathread.encode import loads
from durathread.streams.events import stream_key
from durathread.streams.frames import frames_subject
from durathread.streams.read_pages import oldest_first

Lifecycle = tuple[tuple[str, ...], dict[str, Any]]


async def lifecycles(redis: "Redis", thread_id: str, run_id: str) -> list[Lifecycle]:
    """Read the lifecycle events of a run: the namespace and the data of each, oldest first.

    Raises:
        RedisError: Valkey is unavailable.
    """
    found = list[Lifecycle]()
    async for _, fields in oldest_first(redis, stream_key(frames_subject(thread_id))):
        if fields[b"e"].startswith(b"lifecycle") and run_id.encode() in fields[b"d"]:
            params = loads(fields[b"d"])["params"]
            found.append((tuple(params["namespace"]), params["data"]))
    return found
