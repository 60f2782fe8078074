"""What a thread's frames say about the graphs of one run."""

from typing import Any, cast

import orjson
from redis.asyncio import Redis

from durathread.streams.events import stream_key
from durathread.streams.frames import PAGE, frames_subject

Lifecycle = tuple[tuple[str, ...], dict[str, Any]]


async def lifecycles(redis: "Redis", thread_id: str, run_id: str) -> list[Lifecycle]:
    """Read the lifecycle events of a run: the namespace and the data of each, oldest first.

    Raises:
        RedisError: Valkey is unavailable.
    """
    found = list[Lifecycle]()
    lower = "-"
    while page := cast(
        list[tuple[bytes, dict[bytes, bytes]]],
        await redis.xrange(stream_key(frames_subject(thread_id)), lower, "+", count=PAGE),
    ):
        for entry_id, fields in page:
            lower = f"({entry_id.decode()}"
            if fields[b"e"].startswith(b"lifecycle") and run_id.encode() in fields[b"d"]:
                params = orjson.loads(fields[b"d"])["params"]
                found.append((tuple(params["namespace"]), params["data"]))
    return found
