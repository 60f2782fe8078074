"""Finds out who sends each request, before any route sees it."""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from typing import Any

import orjson
import structlog
from fastapi import routing
from starlette.authentication import AuthCredentials, UnauthenticatedUser
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from durathread.api.auth.authorization import ANYBODY, KEY, Caller
from durathread.api.auth.handlers import Authority
from durathread.api.http.bodies import read_json
from durathread.api.http.custom_app import owner
from durathread.api.http.entrance import route_path
from durathread.api.http.envelopes import Refused, failed
from durathread.api.http.error_answers import problem
from durathread.api.http.in_process import is_in_process
from durathread.api.http.revocation import KEY as KEY_OF_REVOCATION
from durathread.api.http.revocation import Revocation
from durathread.encode import loads
from durathread.errors import Error, Invalid
from durathread.users import User

log = structlog.get_logger()

# What a handler says to nobody in particular: it, or whom it asks, has no time.
PASSING = (408, 429)
REFUSED = "Unauthorized"
# Where events and errors are those of the streaming protocol.
PROTOCOL = "/stream/events"
ERROR = {"error": REFUSED, "message": REFUSED}
# These are open to everybody: they show no resource.
PUBLIC = frozenset({"/", "/ok", "/ready", "/info", "/metrics", "/docs", "/docs/oauth2-redirect", "/openapi.json"})


class Authentication:
    """Lets pass who is authenticated, as `request.user`, and requests from within the process."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        authority: Authority,
        recheck: float,
        exempt: Callable[[Scope], bool] | None = None,
    ) -> None:
        """Wrap an app.

        Args:
            app: what gets the request next.
            authority: knows who somebody is.
            recheck: seconds after which it is asked again, as long as a stream or a socket lasts.
            exempt: says which requests pass without being looked at; by default those to `PUBLIC` paths.
        """
        self._recheck = recheck
        self._app = app
        self._authority = authority
        self._exempt = exempt or is_public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif is_in_process(scope):
            scope.update({KEY: ANYBODY, "user": UnauthenticatedUser(), "auth": AuthCredentials()})
            await self._app(scope, receive, send)
        elif self._exempt(scope):
            await self._app(scope, receive, send)
        elif [name for name, _ in scope["headers"]].count(b"authorization") > 1:
            # A proxy may have looked at another one of them than we would.
            await _refuse(problem(400, "There is more than one Authorization header"), scope, receive, send)
        else:
            await self._authenticated(scope, receive, send)

    async def _authenticated(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = Body(receive)
        is_request = scope["type"] == "http"
        connection = Request(scope, body.record) if is_request else HTTPConnection(scope)
        try:
            user = await authenticate(self._authority, connection)
        except Error as error:
            await _refuse(problem(error.status, str(error)), scope, receive, send)
        except HTTPException as error:
            headers = dict(error.headers) if error.headers else None
            await _refuse(problem(error.status_code, str(error.detail), headers), scope, receive, send)
        else:
            caller = Caller(self._authority, user)
            scope.update({KEY: caller, "user": user, "auth": AuthCredentials(user.permissions)})
            lasting = Lasting(self._authority, connection, user, every=self._recheck)
            await lasting.hold(self._app, scope, body.replay if is_request else receive, send)


class Lasting:
    """A request for as long as its sender is who they were: a stream or a socket may outlive a token."""

    def __init__(self, authority: Authority, connection: HTTPConnection, user: User, *, every: float) -> None:
        """Take who has sent it, and how often to ask again, in seconds."""
        self._authority = authority
        self._connection = connection
        self._user = user
        self._every = every
        self._revocation = Revocation()
        self._answer = _Answer()

    async def hold(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Let an app answer, and end its answer when the sender is refused."""
        serving = asyncio.current_task()
        assert serving is not None
        scope[KEY_OF_REVOCATION] = self._revocation
        watch = _Alarm(self._every, lambda: self._watch(serving))

        async def sent(message: Message) -> None:
            await send(message)
            self._answer.note(message)
            if self._answer.ended:
                # What is done afterwards is nobody's any more.
                watch.stop()

        try:
            await app(scope, receive, sent)
        except asyncio.CancelledError:
            if not self._revocation.happened:
                raise
            serving.uncancel()
            await self._end(scope, receive, send)
        finally:
            watch.stop()

    async def _watch(self, serving: asyncio.Task[Any]) -> None:
        while True:
            if not await self._is_welcome():
                self._revocation.happened = True
                serving.cancel()
                return
            await asyncio.sleep(self._every)

    async def _is_welcome(self) -> bool:
        try:
            now = await authenticate(self._authority, self._connection)
        except HTTPException as error:
            # Whoever knows users may be away for a while: that says nothing of this one.
            return error.status_code >= 500 or error.status_code in PASSING
        except Error:
            return True
        return now.identity == self._user.identity

    async def _end(self, scope: Scope, receive: Receive, send: Send) -> None:
        log.info("Who has sent a request is not welcome any more", path=scope["path"], user=self._user.identity)
        if scope["type"] == "websocket":
            await WebSocketClose(4401, "Unauthorized")(scope, receive, send)
        elif not self._answer.started:
            await problem(401, REFUSED)(scope, receive, send)
        elif not self._answer.ended:
            last = self._answer.refusal(route_path(scope))
            await send({"type": "http.response.body", "body": last, "more_body": False})


class _Answer:
    """What has been sent of an answer, and how it ends when the rest is not for its client any more."""

    def __init__(self) -> None:
        self.started = self.ended = False
        self._headers = Headers()
        self._is_blank = True

    def note(self, message: Message) -> None:
        """Look at what has been sent."""
        if message["type"] == "http.response.start":
            self.started, self._headers = True, Headers(raw=list(message.get("headers", ())))
        elif message["type"] == "http.response.body":
            self._is_blank = self._is_blank and not message.get("body", b"").strip()
            self.ended = not message.get("more_body", False)

    def refusal(self, path: str) -> bytes:
        """Return what tells a client that this is not the end of what it asked for."""
        kind = self._headers.get("content-type", "").partition(";")[0]
        if "content-length" in self._headers:
            return b""
        if kind == "text/event-stream":
            said = failed(None, Refused("permission_denied", REFUSED)) if path.endswith(PROTOCOL) else ERROR
            return b"event: error\r\ndata: %b\r\n\r\n" % orjson.dumps(said)
        # Newlines, so far, that kept the connection alive.
        return orjson.dumps({"__error__": ERROR}) if kind == "application/json" and self._is_blank else b""


class _Alarm:
    """Starts work when so many seconds have passed, unless it is stopped before: a short request pays for a timer only."""

    def __init__(self, seconds: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._task: asyncio.Task[None] | None = None
        self._work = work
        self._timer = asyncio.get_running_loop().call_later(seconds, self._start)

    def _start(self) -> None:
        self._task = asyncio.create_task(self._work(), name="authentication of a request that lasts")

    def stop(self) -> None:
        self._timer.cancel()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()


class Body:
    """A request's body that is read twice: by who authenticates, and by the route."""

    def __init__(self, receive: Receive) -> None:
        """Take where the body comes from."""
        self._receive = receive
        self._seen: deque[Message] = deque()

    async def record(self) -> Message:
        """Receive for the first reader."""
        message = await self._receive()
        self._seen.append(message)
        return message

    async def replay(self) -> Message:
        """Receive for the second reader."""
        return self._seen.popleft() if self._seen else await self._receive()


async def authenticate(authority: Authority, connection: HTTPConnection) -> User:
    """Find out who sends a request, or opens a WebSocket.

    Raises:
        HTTPException: it is nobody, or that cannot be found out.
    """
    scope = connection.scope
    known: dict[str, Callable[[], Any]] = {
        "request": lambda: connection,
        "headers": lambda: dict(scope["headers"]),
        "authorization": lambda: connection.headers.get("authorization"),
        # A WebSocket is asked for by GET.
        "method": lambda: scope.get("method", "GET"),
        "path": lambda: scope["path"],
        "path_params": lambda: _path_params(scope),
        "query_params": lambda: dict(connection.query_params),
        "scope": lambda: scope,
        # Nobody has said anything of the sender yet.
        "scopes": list,
        "user": lambda: None,
    }
    given = {name: known[name]() for name in authority.asks_for if name in known}
    if "body" in authority.asks_for:
        given["body"] = await _json(connection) if isinstance(connection, Request) else None
    return await authority.authenticate(given)


def is_public(scope: Scope) -> bool:
    """Say whether a request is to a path that everybody may ask."""
    return scope["type"] == "http" and route_path(scope) in PUBLIC


async def _refuse(answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await WebSocketClose(1008)(scope, receive, send)
    else:
        await answer(scope, receive, send)


async def _json(request: Request) -> Any:
    """Read a body; None if it is not JSON, which the route will say."""
    try:
        return await read_json(await request.body(), small=loads)
    except (Invalid, ValueError):
        return None


def _path_params(scope: Scope) -> dict[str, Any]:
    """Match the path with the routes: none has been chosen yet."""
    path = route_path(scope)
    for template, methods in _templates(owner(scope).routes):
        if methods is not None and scope.get("method", "GET") not in methods:
            continue
        pattern, _, convertors = compile_path(template)
        if found := pattern.match(path):
            return {name: convertors[name].convert(value) for name, value in found.groupdict().items()}
    return {}


def _templates(routes: Sequence[BaseRoute]) -> Iterator[tuple[str, Collection[str] | None]]:
    """List the paths of routes with their methods; None stands for any."""
    # FastAPI has kept routers whole, and walked them so, since 0.138; before it, an app's routes are all there is.
    walk = getattr(routing, "iter_route_contexts", iter)
    for route in walk(routes):
        if (template := getattr(route, "path", None)) is not None:
            yield template, getattr(route, "methods", None)
