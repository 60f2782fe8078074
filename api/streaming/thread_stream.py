"""The stream of a thread: `client.threads.join_stream`."""

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
import structlog
from fastapi import Request
from redis.exceptions import RedisError
from starlette.responses import Response

from durathread.api.auth.authorization import CallerDep
from durathread.api.deps import Server, ServerDep, ThreadId, existing_thread, listed
from durathread.api.http.bodies import Routes
from durathread.api.http.error_answers import problems
from durathread.api.openapi.described import EVENTS, LAST_EVENT_ID, parameters, query_list
from durathread.api.services.rest import resting
from durathread.api.services.thread_states import read
from durathread.api.streaming.gap_notices import bridged
from durathread.api.streaming.sse import event_stream, ignored, last_event_id
from durathread.encode import dumps, jsonable, loads
from durathread.errors import Invalid, Unavailable
from durathread.records import JsonObject
from durathread.streams.events import END, GAP, START, Event, thread_subject
from durathread.streams.hub import Hub
from durathread.streams.thread_markers import DONE, LAST, RUN, STATE, entry_id, event_id, number, parse

log = structlog.get_logger()

router = Routes(prefix="/threads/{thread_id}", tags=["Threads"])

MODES = ("run_modes", "lifecycle", "state_update")
# Marks before the place where a client comes back that are looked at: what they say has been said.
REMEMBERED = 100


@dataclass(frozen=True)
class Mark:
    """A mark on a thread's stream."""

    entry: str
    kind: str
    data: dict[str, Any]

    @classmethod
    def of(cls, event: Event) -> "Mark":
        """Read an entry of the thread's stream."""
        return cls(event.event_id, event.name, loads(event.data))

    @property
    def run_id(self) -> str:
        """The run that the mark is about; empty if it is about none."""
        return self.data.get("run_id", "")


@dataclass
class Place:
    """Where a client begins, and what was there already when it came."""

    after: str
    """Marks after this one follow."""
    newest: str
    """Marks up to this one are history."""
    seen: set[str]
    """Runs that have been shown."""
    run: Mark | None = None
    """The run to begin in, after `event`."""
    event: str = START
    current: Mark | None = None
    """The run that is history no longer than up to `tail`; None if it is over."""
    tail: str = START
    announce: bool = field(default=False)
    """Whether the client is told which run it begins in."""


@router.get(
    "/stream",
    responses={**problems(404), **EVENTS},
    response_class=Response,
    openapi_extra=parameters(LAST_EVENT_ID, query_list("stream_mode", f"Of {', '.join(MODES)}; run_modes by default.")),
)
async def join_stream(thread_id: ThreadId, request: Request, server: ServerDep, caller: CallerDep) -> Response:
    """Watch all runs of a thread, present and future, and updates of its state (server-sent events). Does not end."""
    modes = listed(request, "stream_mode", "stream_modes") or ["run_modes"]
    if unknown := [mode for mode in modes if mode not in MODES]:
        raise Invalid(f"Invalid stream mode {', '.join(unknown)}: must be {', '.join(MODES)}")
    given = last_event_id(request)
    asked, warning = None, dict[str, str]()
    try:
        asked = parse(given) if given is not None else None
    except Invalid as error:
        warning = dict(ignored(error))
    await existing_thread(server, thread_id, visible_to=await caller.may_read(thread_id))
    try:
        place = await _place(server.hub, thread_subject(thread_id), asked)
    except (RedisError, OSError) as error:
        raise Unavailable("The event stream is unavailable.") from error
    location = f"/threads/{thread_id}/stream?stream_modes={','.join(modes)}"
    return event_stream(
        _shown(_events(server, thread_id, place, modes), modes),
        with_ids=True,
        headers={"location": location, **warning},
    )


async def _place(hub: Hub, subject: str, asked: tuple[int, int] | None) -> Place:
    marks = await hub.newest(subject)
    newest = marks[0].event_id if marks else START
    found = await hub.last(subject, RUN, before=newest) if marks else None
    current, tail = (Mark.of(found) if found else None), START
    if current is not None:
        tail = await hub.tail(current.run_id)
        if tail == START or await hub.is_over(current.run_id):
            current = None
    upto = newest if asked is None else entry_id(asked[0])
    before = [Mark.of(event) for event in await hub.newest(subject, upto=upto, count=REMEMBERED)]
    seen = {mark.run_id for mark in before}
    if asked is None:
        return Place(newest, newest, seen, current, tail, current, tail, announce=True)
    if not before:
        # Behind a mark that is not kept.
        return Place(upto, newest, seen, current=current, tail=tail)
    run = before[0] if before[0].kind == RUN and asked[1] < LAST else None
    return Place(before[0].entry, newest, seen, run, entry_id(asked[1]), current, tail)


async def _events(server: Server, thread_id: UUID, place: Place, modes: Collection[str]) -> AsyncIterator[Event]:
    only_states = set(modes) == {"state_update"}
    if place.run is not None and not only_states:
        if place.announce:
            yield _begun(place.run, number(place.event))
        async for event in _rest(server, place.run, place, after=place.event):
            yield event
    async for found in server.hub.marks(thread_subject(thread_id), after=place.after):
        mark = Mark.of(found)
        if mark.kind == GAP:
            async for event in _missed(server, thread_id, modes):
                yield event
            continue
        if mark.kind == STATE:
            address = {"checkpoint_id": mark.data["checkpoint_id"]}
            if "state_update" in modes and (event := await _state(server, thread_id, address)):
                yield Event(event_id(mark.entry, 0), event.name, event.data)
            continue
        if only_states or mark.run_id in place.seen:
            continue
        place.seen.add(mark.run_id)
        if mark.kind == DONE:
            yield _done(mark, 0)
        elif mark.kind == RUN:
            yield _begun(mark, 0)
            async for event in _rest(server, mark, place, after=START):
                yield event


async def _rest(server: Server, mark: Mark, place: Place, *, after: str) -> AsyncIterator[Event]:
    """Follow a run to its end. What happened before the client came is shown of resumable runs only."""
    past = number(mark.entry) <= number(place.newest)
    over = past and (place.current is None or place.current.run_id != mark.run_id)
    if past and not mark.data["resumable"]:
        after = max(after, place.tail, key=number)
    if not over or mark.data["resumable"]:
        events = server.hub.events(mark.run_id, after=after, ended=over)
        bridge = bridged(server, mark.run_id, mark.data["attempt"], events)
        async for event in resting(server.hub, mark.run_id, bridge):
            if event.name == END:
                break
            if not event.event_id:
                yield event
            elif event.name != "metadata" or orjson.loads(event.data)["attempt"] > mark.data["attempt"]:
                yield Event(event_id(mark.entry, number(event.event_id)), event.name, event.data)
    yield _done(mark, LAST)


async def _missed(server: Server, thread_id: UUID, modes: Collection[str]) -> AsyncIterator[Event]:
    """Say that runs and updates may have been missed, and where the thread stands now."""
    yield Event("", "metadata", dumps({"thread_id": thread_id, "gap": True}))
    if "state_update" in modes and (event := await _state(server, thread_id, {})):
        yield Event("", event.name, event.data)


def _begun(mark: Mark, event: int) -> Event:
    said = {"run_id": mark.run_id, "attempt": mark.data["attempt"]}
    return Event(event_id(mark.entry, event), "metadata", dumps(said))


def _done(mark: Mark, event: int) -> Event:
    said = {"status": "run_done", "run_id": mark.run_id}
    return Event(event_id(mark.entry, event), "metadata", dumps(said))


async def _state(server: Server, thread_id: UUID, address: JsonObject) -> Event | None:
    try:
        thread = await existing_thread(server, thread_id, visible_to=None)
        state: dict[str, Any] = await read(server, thread, address, form=jsonable)
    except Unavailable:
        raise
    except Exception:
        # Raised again, it would stop every client that comes back after the event before it.
        log.exception("An updated state could not be read", thread_id=str(thread_id))
        return None
    if state["checkpoint"] is None or state["created_at"] is None:
        # Deleted since.
        return None
    return Event("", "state_update", dumps({"state": state, "thread_id": thread_id}))


async def _shown(events: AsyncIterator[Event], modes: Collection[str]) -> AsyncIterator[Event]:
    async for event in events:
        if event.name == "state_update" or "run_modes" in modes or event.name == "metadata":
            yield event
