"""What is said where a stream has lost events: that there is a gap, and the state so far."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast
from uuid import UUID

import structlog
from redis.exceptions import RedisError

from durathread.api.deps import Server
from durathread.api.services.run_result import at_its_end
from durathread.db import runs
from durathread.db.pool import connection
from durathread.encode import dumps, loads
from durathread.streams.events import GAP, Event
from durathread.streams.hub import order

log = structlog.get_logger()


async def bridged(server: Server, run_id: str, attempt: int, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """Say in the words of a run's stream where events of it are missing: `metadata`, then `values`."""
    async for event in events:
        if event.name != GAP:
            yield event
            continue
        yield Event("", "metadata", dumps({"run_id": run_id, "attempt": attempt, "gap": True}))
        if (values := await state_so_far(server, run_id, after=event.event_id)) is not None:
            yield Event("", "values", dumps(values))


async def state_so_far(server: Server, run_id: str, *, after: str = "") -> Any:
    """Return the newest state of a run, or None: as its stream has shown it since the gap, or as it is stored.

    All who have lost the same events are answered by one reading.
    """
    reading = server.readings.get(run_id)
    if reading is None:
        reading = server.readings[run_id] = asyncio.create_task(_read(server, run_id, after), name=f"state of {run_id}")
        reading.add_done_callback(lambda _: server.readings.pop(run_id, None))
    return await asyncio.shield(reading)


async def _read(server: Server, run_id: str, after: str) -> Any:
    try:
        if after and (shown := await server.hub.last(run_id, "values")) and order(shown.event_id) > order(after):
            return loads(shown.data)
    except (RedisError, OSError):
        log.warning("A stream has a gap, and waits", run_id=run_id)
    try:
        async with connection(server.pool) as conn:
            run = await runs.get(conn, UUID(run_id))
        values = run and await at_its_end(server, run)
    except Exception:
        # The notice matters more: who needs the state can ask for it.
        log.exception("The state behind a gap cannot be read", run_id=run_id)
        return None
    return (
        {key: value for key, value in cast(dict[str, Any], values).items() if key != "__interrupt__"}
        if isinstance(values, dict)
        else values
    )
