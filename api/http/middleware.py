"""What happens to every request before a route sees it. Plain ASGI, so that streams pass untouched."""

import asyncio

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from durathread.api.http.error_answers import problem
from durathread.api.http.revocation import is_revoked
from durathread.errors import TooLarge

STOPS = problem(503, "The server is stopping; try again.", {"Retry-After": "1", "Connection": "close"})
BODY_METHODS = ("POST", "PUT", "PATCH", "DELETE")


class JsonBodies:
    """Reads every body as JSON, whatever its Content-Type says: Studio posts JSON as text/plain."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an app."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "http" and scope["method"] in BODY_METHODS:
            MutableHeaders(scope=scope)["content-type"] = "application/json"
        await self._app(scope, receive, send)


class BodyLimit:
    """Refuses bodies that are too large, also those that do not say their length."""

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        """Wrap an app; `limit` is in bytes."""
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = problem(413, f"Request body too large: the limit is {self._limit} bytes")
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._limit:
            await refusal(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._limit:
                raise TooLarge(f"Request body too large: the limit is {self._limit} bytes")
            return message

        await self._app(scope, counted, send)


class Stopping:
    """Says in our own words that a request was ended because the server stops: its host cancels what takes too long then."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an app."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except asyncio.CancelledError:
            # Who is refused now is told by who refused them.
            if not begun and not is_revoked(scope):
                await STOPS(scope, receive, send)
            raise


class HeadRequests:
    """Answers HEAD wherever there is a GET."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an app."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        # The headers are the whole answer: a body that never ends must not be waited for.
        started = asyncio.Event()

        async def headless(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b""})
                started.set()

        serving = asyncio.ensure_future(self._app({**scope, "method": "GET"}, receive, headless))
        headers = asyncio.ensure_future(started.wait())
        await asyncio.wait([serving, headers], return_when=asyncio.FIRST_COMPLETED)
        headers.cancel()
        if not serving.done():
            serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
