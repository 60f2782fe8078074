"""Server-sent events and padded JSON: responses that last as long as a run."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from durathread.api.http.revocation import is_revoked
from durathread.encode import dumps
from durathread.errors import Error
from durathread.streams.events import END, Event

# Seconds between signs of life, counted from the connection's start.
HEARTBEAT = 5.0
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
COMMENT = b": heartbeat\r\n\r\n"

# Python's SDK takes an `end` for the end since this version, and says who it is.
PYTHON_SDK = re.compile(r"langgraph-sdk-py/(\d+)\.(\d+)\.(\d+)")
KNOWS_END = (0, 4, 14)
TRUE = ("true", "1")

Gone = Callable[[], Coroutine[Any, Any, None]]


def frame(event: Event, *, with_id: bool) -> bytes:
    """Render an event: `event`, `data`, and `id` for those who may come back for the rest."""
    last = f"id: {event.event_id}\r\n" if with_id and event.event_id else ""
    return b"event: %b\r\ndata: %b\r\n%b\r\n" % (event.name.encode(), event.data, last.encode())


def wants_end(request: Request) -> bool:
    """Say whether a client knows the event that ends a run's stream.

    Users of other clients take the last event for the last state. They may ask for it, by `stream_end` in the query.
    """
    if request.query_params.get("stream_end", "").lower() in TRUE:
        return True
    sdk = PYTHON_SDK.search(request.headers.get("user-agent", ""))
    return sdk is not None and tuple(int(part) for part in sdk.groups()) >= KNOWS_END


def event_stream(
    events: AsyncIterator[Event],
    *,
    with_ids: bool,
    headers: Mapping[str, str],
    with_end: bool = True,
    gone: Callable[[], None] | None = None,
) -> StreamingResponse:
    """Stream events until their `end`.

    Args:
        events: what to send.
        with_ids: whether the client may resume by event id.
        headers: besides those that keep proxies from buffering.
        with_end: whether the client is sent the `end` itself.
        gone: called when the client leaves before the end.
    """
    parts = _beating(_parts(events, with_ids=with_ids, with_end=with_end))
    return Noticing(parts, gone=gone, media_type="text/event-stream", headers={**HEADERS, **headers})


def padded_json(
    outcome: Awaitable[Any], *, headers: Mapping[str, str], gone: Callable[[], None] | None = None
) -> StreamingResponse:
    """Answer with JSON once it is known, with newlines before it that keep the connection alive."""

    async def body() -> AsyncIterator[bytes]:
        waiting = asyncio.ensure_future(outcome)
        try:
            while not waiting.done():
                done, _ = await asyncio.wait([waiting], timeout=HEARTBEAT)
                if not done:
                    yield b"\n"
            yield dumps(waiting.result())
        finally:
            waiting.cancel()

    return Noticing(body(), gone=gone, media_type="application/json", headers=dict(headers))


class Noticing(StreamingResponse):
    """A response that says if nobody took the last of it, unless that is our doing."""

    def __init__(self, parts: AsyncIterator[bytes], *, gone: Callable[[], None] | None, **options: Any) -> None:
        """Take the parts, what to call when the client leaves before the last, and what Starlette's takes."""
        super().__init__(self._passed(parts), **options)
        self._gone = gone
        self._is_finished = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._gone is not None and not self._is_finished and not is_revoked(scope):
                self._gone()

    async def _passed(self, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for part in parts:
            yield part
        self._is_finished = True


async def _parts(events: AsyncIterator[Event], *, with_ids: bool, with_end: bool) -> AsyncGenerator[tuple[bytes, bool]]:
    """Render events, and say of each whether it is the last."""
    async for event in events:
        last = event.name == END
        yield b"" if last and not with_end else frame(event, with_id=with_ids), last


async def _beating(parts: AsyncIterator[tuple[bytes, bool]]) -> AsyncIterator[bytes]:
    """Pass parts on, and a comment every few seconds, whatever else is sent."""
    clock = asyncio.get_running_loop()
    due = clock.time() + HEARTBEAT
    coming: asyncio.Future[tuple[bytes, bool]] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(parts))
            await asyncio.wait([coming], timeout=max(due - clock.time(), 0))
            if clock.time() >= due:
                due += HEARTBEAT
                yield COMMENT
            if coming.done():
                try:
                    part, last = coming.result()
                except StopAsyncIteration:
                    return
                coming = None
                if part:
                    yield part
                if last:
                    return
    finally:
        if coming is not None:
            coming.cancel()


def last_event_id(request: Request) -> str | None:
    """Read the header by which a client comes back. Empty, it says what its absence does."""
    return request.headers.get("last-event-id") or None


def ignored(error: Error) -> Mapping[str, str]:
    """Build the header that says what was not heeded of a request."""
    return {"warning": f'299 - "{error}"'}
