"""The SDK's clients without a URL: `get_client()` in a node, a graph's factory or a custom route.

The SDK gives them an ASGI transport. It finds the server by importing the vendor's; else it keeps the transport and waits
for `configure_loopback_transports`, which reaches only clients that exist already, and httpx's transport hands out a
response when it is complete: no stream would ever begin. So `install` puts our transport in the place of theirs. For that
it sets two names of the SDK's module that are not public; tests/inprocess/test_clients.py fails when they are gone.

All clients of the SDK, those with a URL too, say which run the code works on that sends a request.
"""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import httpx
import langgraph_sdk._async.client as sdk
from langgraph_sdk.client import HttpClient, SyncHttpClient, configure_loopback_transports
from starlette.types import ASGIApp, Message, Scope

from durathread.inprocess.calls import HEADER, call, run_at_work

# Tells the SDK not to look for the vendor's server.
DEFER = "__LANGGRAPH_DEFER_LOOPBACK_TRANSPORT"
# Marks the SDK's classes that have been told.
NAMES_RUNS = "__durathread_names_runs__"
# Parts of a response that wait for who reads it.
AHEAD = 16

# Of a request's scope: which call of which run it is.
CALL = "durathread.call"

# The one that was added last serves.
_serving: list[ASGIApp] = []


def install() -> None:
    """Let clients without a URL, those to come as well, speak to the app that this process serves. Doing it again is fine."""
    os.environ[DEFER] = "true"
    module: Any = sdk
    module.get_asgi_transport = lambda: Transport
    # The SDK remembers every transport for good; ours find the app themselves.
    module._registered_transports = deque[Any](maxlen=0)
    _name_runs(HttpClient, _name_run)
    _name_runs(SyncHttpClient, _name_run_of_sync)


def _name_runs(kind: Any, hook: Any) -> None:
    """Have clients call a hook with each request; it may be a client that the user has made, so others' hooks stay."""
    if hasattr(kind, NAMES_RUNS):
        return
    init = kind.__init__

    def __init__(self: Any, client: Any, *args: Any, **kwargs: Any) -> None:
        init(self, client, *args, **kwargs)
        # What is no client of httpx has no hooks.
        hooks: Any = getattr(client, "event_hooks", None)
        if hooks is not None and hook not in hooks["request"]:
            client.event_hooks = {**hooks, "request": [*hooks["request"], hook]}

    kind.__init__ = __init__
    setattr(kind, NAMES_RUNS, True)


def _name_run_of_sync(request: httpx.Request) -> None:
    if run_id := run_at_work():
        request.headers[HEADER] = str(run_id)


async def _name_run(request: httpx.Request) -> None:
    _name_run_of_sync(request)


def serve(app: ASGIApp) -> None:
    """Make an app the one that clients without a URL speak to. It must be callable from any event loop."""
    _serving.append(app)
    # Clients that were made before `install`.
    configure_loopback_transports(app)


def withdraw(app: ASGIApp) -> None:
    """Let clients without a URL speak to the app that served before, if there is one."""
    _serving.remove(app)


class Transport(httpx.ASGITransport):
    """Hands out a response as soon as it begins."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        if not _serving:
            raise httpx.ConnectError("There is no server in this process: give get_client a url.", request=request)
        body = await request.aread()
        exchange = Exchange(body)
        scope: MutableMapping[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "scheme": request.url.scheme,
            "path": request.url.path,
            "raw_path": request.url.raw_path.split(b"?")[0],
            "query_string": request.url.query,
            "server": (request.url.host, request.url.port),
            "client": self.client,
            "root_path": self.root_path,
            CALL: call(request.method, request.url.raw_path, body),
        }
        return await exchange.begin(_serving[-1], scope)


class Exchange(httpx.AsyncByteStream):
    """One request and its response, which is also the stream of the response's body."""

    def __init__(self, body: bytes) -> None:
        """Hold a request."""
        self._body: bytes | None = body
        self._start: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue(AHEAD)
        self._closed = asyncio.Event()
        self._complete = False
        self._task: asyncio.Task[None] | None = None

    async def begin(self, app: ASGIApp, scope: Scope) -> httpx.Response:
        """Call an app, and wait for the beginning of its response."""
        self._task = asyncio.create_task(self._serve(app, scope))
        try:
            start = await self._start
        except asyncio.CancelledError:
            # As one who hangs up: what the app has begun, it ends.
            await self.aclose()
            raise
        return httpx.Response(start["status"], headers=start.get("headers", []), stream=self)

    async def _serve(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self._receive, self._send)
        except Exception as error:  # noqa: BLE001, whoever waits gets it
            if not self._start.done():
                self._start.set_exception(error)
        finally:
            if not self._start.done():
                self._start.set_exception(httpx.RemoteProtocolError("The server has not answered."))
            await self._put(None)

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._closed.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if not self._start.done():
                self._start.set_result(message)
            return
        self._complete = not message.get("more_body", False)
        if body := message.get("body", b""):
            await self._put(body)

    async def _put(self, part: bytes | None) -> None:
        """Add a part when there is room; nobody reads it once the response is closed."""
        if not self._closed.is_set():
            await self._parts.put(part)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Read the body as it comes."""
        while (part := await self._parts.get()) is not None:
            yield part
        if not self._complete:
            raise httpx.ReadError("The server has stopped in the midst of its response.")

    async def aclose(self) -> None:
        """Hang up, and let whoever waits for room go on."""
        self._closed.set()
        while not self._parts.empty():
            self._parts.get_nowait()
