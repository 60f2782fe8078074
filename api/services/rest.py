"""Once a client has seen the end of a run, it sees the thread at rest."""

import asyncio
from collections.abc import AsyncIterator

from durathread.encode import loads
from durathread.errors import Unavailable
from durathread.streams.events import END, Event, settled
from durathread.streams.frames import SYNTHETIC
from durathread.streams.hub import Hub

# How long an end waits for the thread's row, in seconds. A run that is cancelled has ended before its node has stopped.
SETTLING = 10.0
CUT = b'"status":"interrupted"'


async def at_rest(hub: Hub, run_id: str) -> None:
    """Wait until a thread shows what a run that was cut has left, unless the database cannot be asked."""
    try:
        async with asyncio.timeout(SETTLING):
            await hub.ended(settled(run_id))
    except (TimeoutError, Unavailable):
        return


async def resting(hub: Hub, run_id: str, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """Hold back the end of a run's stream until its thread is at rest."""
    async for event in events:
        if event.name == END and CUT in event.data:
            await at_rest(hub, run_id)
        yield event


async def resting_frames(hub: Hub, entries: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """Hold back the ends of runs on a thread's protocol stream until the thread is at rest."""
    async for entry in entries:
        if entry.name == "lifecycle" and CUT in entry.data:
            event = loads(entry.data)
            run_id, _, what = event["event_id"].removeprefix(SYNTHETIC).partition(":")
            if what == "ended":
                await at_rest(hub, run_id)
        yield entry
