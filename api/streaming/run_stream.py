"""How a client comes to watch a run: from its start, from where it was cut, or late."""

import re
from collections.abc import AsyncIterator, Collection, Mapping

from redis.exceptions import RedisError
from starlette.requests import Request

from durathread.api.deps import Server
from durathread.api.services.rest import resting
from durathread.api.streaming.gap_notices import bridged
from durathread.api.streaming.sse import ignored, last_event_id
from durathread.encode import dumps
from durathread.errors import Invalid, Unavailable
from durathread.records import Run
from durathread.streams.events import END, START, Event
from durathread.streams.hub import Hub

FROM_START = ("-1", "-", "0", "0-0")
EVENT_ID = re.compile(r"[0-9]+(-[0-9]+)?")
# More than any event has: Valkey reads no number of many more digits.
FAR = "9" * 15
# What comes whatever modes are asked for. `metadata` says that a step is repeated, and what comes twice.
ALWAYS = (END, "error", "metadata")


def parse_event_id(value: str) -> str:
    """Read a `Last-Event-ID`.

    Raises:
        Invalid: no event has such an id.
    """
    if value in FROM_START:
        return START
    if not EVENT_ID.fullmatch(value):
        raise Invalid("Invalid Last-Event-ID: must be the id of an event, or -1 for all")
    return "-".join(part if len(part) <= len(FAR) else FAR for part in value.split("-"))


def run_headers(run: Run, suffix: str, *, stateless: bool = False) -> Mapping[str, str]:
    """Say where the run is, and where to come back to."""
    path = f"/threads/{run.thread_id}/runs/{run.run_id}"
    content = f"/runs/{run.run_id}" if stateless else path
    return {"content-location": content, "location": f"{path}/{suffix}"}


def resumed_from(request: Request) -> tuple[str | None, Mapping[str, str]]:
    """Read where a client goes on, and the headers that say so if nobody can tell. It is then one that has seen nothing."""
    given = last_event_id(request)
    if given is None:
        return None, {}
    try:
        return parse_event_id(given), {}
    except Invalid as error:
        return None, ignored(error)


async def watch(server: Server, run: Run, *, after: str | None, modes: Collection[str] = ()) -> AsyncIterator[Event]:
    """Follow a run that exists already.

    With an event id: what came after it. Without one: all of a resumable run; of another the state so far, as one
    `values` event, then what happens from now on.
    """
    first, snapshot = after or START, list[Event]()
    if after is None and not run.options.resumable and run.status != "pending":
        first, snapshot = await _so_far(server, run)
    return _filtered(_joined(snapshot, follow(server, run, after=first, ended=not run.in_flight)), modes)


async def follow(server: Server, run: Run, *, after: str = START, ended: bool = False) -> AsyncIterator[Event]:
    """Follow a run's stream to its end."""
    run_id = str(run.run_id)
    events = bridged(server, run_id, run.retries + 1, server.hub.events(run_id, after=after, ended=ended))
    async for event in resting(server.hub, run_id, events):
        yield event


async def _so_far(server: Server, run: Run) -> tuple[str, list[Event]]:
    run_id = str(run.run_id)
    try:
        newest = await server.hub.newest(run_id)
        tail = newest[0].event_id if newest else START
        found = await _shown_last(server.hub, run, newest[0]) if newest else []
        if not run.in_flight:
            # The end is among what has been; the follower brings it again.
            tail = await server.hub.before_end(run_id)
    except (RedisError, OSError) as error:
        raise Unavailable("The event stream is unavailable.") from error
    first = Event("", "metadata", dumps({"run_id": run_id, "attempt": run.retries + 1}))
    return tail, [first, *found]


async def _shown_last(hub: Hub, run: Run, newest: Event) -> list[Event]:
    """Read the last state, and the error, that a run has shown. What it cannot have shown is not searched for."""
    run_id, found = str(run.run_id), list[Event | None]()
    if "values" in run.options.stream_mode:
        found.append(await hub.last(run_id, "values", before=newest.event_id))
    if run.in_flight and newest.name != END:
        # The row says so only after the event.
        found.append(newest if newest.name == "error" else None)
    elif run.status not in ("success", "interrupted"):
        found.append(await hub.last(run_id, "error", before=newest.event_id))
    return [event for event in found if event is not None]


async def _joined(first: list[Event], rest: AsyncIterator[Event]) -> AsyncIterator[Event]:
    for event in first:
        yield event
    async for event in rest:
        yield event


async def _filtered(events: AsyncIterator[Event], modes: Collection[str]) -> AsyncIterator[Event]:
    async for event in events:
        if not modes or event.name in ALWAYS or _asked_for(event, modes):
            yield event


def _asked_for(event: Event, modes: Collection[str]) -> bool:
    if event.mode.startswith("messages"):
        return any(mode.startswith("messages") for mode in modes)
    return event.mode in modes or event.name in modes
