"""The protocol's events of a thread as server-sent events: `client.threads.stream()`."""

from collections.abc import AsyncIterator
from typing import Any, cast
from uuid import UUID

from fastapi import Request
from redis.exceptions import RedisError
from starlette.responses import Response

from durathread.api.auth.authorization import CallerDep
from durathread.api.deps import Server, ServerDep, ThreadId
from durathread.api.http.bodies import Routes, read_json
from durathread.api.http.error_answers import problems
from durathread.api.openapi.described import EVENTS
from durathread.api.protocol.subscriptions import Subscription, number
from durathread.api.protocol.thread_frames import follow, prepare
from durathread.api.streaming.sse import event_stream, last_event_id
from durathread.encode import loads
from durathread.errors import BadRequest, Invalid, Unavailable
from durathread.records import JsonObject
from durathread.streams.events import Event
from durathread.streams.frames import seq_of, shown

router = Routes(prefix="/threads/{thread_id}", tags=["Threads"])


@router.post("/stream/events", responses={**problems(400, 404), **EVENTS}, response_class=Response)
async def stream(thread_id: ThreadId, request: Request, server: ServerDep, caller: CallerDep) -> Response:
    """Watch a thread by the streaming protocol: what is kept of its events, then what happens. Does not end."""
    params = await _params(request)
    subscription = Subscription.of(params)
    since = max(number(params, "since") or 0, _last(request))
    after = await prepare(server, thread_id, since=since, visible_to=await caller.may_read(thread_id))
    events = _events(server, thread_id, subscription, after)
    try:
        # Opens the stream: before the headers say that it is open, the workers know that somebody watches.
        await anext(events)
    except (RedisError, OSError) as error:
        raise Unavailable("The event stream is unavailable.") from error
    return event_stream(events, with_ids=True, headers={})


async def _events(server: Server, thread_id: UUID, subscription: Subscription, after: int) -> AsyncIterator[Event]:
    async with server.watchers.watching(str(thread_id)):
        yield Event("", "open", b"")
        async for entry in follow(server, thread_id, after=after):
            if subscription.takes(entry):
                yield Event(str(seq_of(entry)), method(entry), shown(entry))


def method(entry: Event) -> str:
    """Name an event as `event:` does."""
    channel = entry.name.partition("\x1f")[0].partition(":")[0]
    return "input.requested" if channel == "input" else channel


def _last(request: Request) -> int:
    given = last_event_id(request) or ""
    return int(given) if given.isdecimal() else 0


async def _params(request: Request) -> JsonObject:
    try:
        found = await read_json(await request.body(), small=loads)
    except Invalid as error:
        raise BadRequest(str(error)) from error
    except ValueError as error:
        raise BadRequest("Invalid JSON in request body") from error
    if not isinstance(found, dict):
        raise BadRequest("Invalid subscription: must be an object")
    return cast(dict[str, Any], found)
