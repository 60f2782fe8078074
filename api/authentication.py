"""Finds out who sends each request, before any route sees it."""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import orjson
from fastapi import routing
from starlette.authentication import AuthCredentials, UnauthenticatedUser
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from durathread.api.authority import Authority
from durathread.api.authorization import ANYBODY, KEY, Caller
from durathread.api.bodies import read_json
from durathread.api.custom import owner
from durathread.api.entrance import route_path
from durathread.api.errors import problem
from durathread.api.in_process import is_in_process
from durathread.errors import Error, Invalid
from durathread.users import User

# What everybody may ask: no resource is behind these.
PUBLIC = frozenset({"/", "/ok", "/ready", "/info", "/metrics", "/docs", "/docs/oauth2-redirect", "/openapi.json"})


class Authentication:
    """Lets pass who is authenticated, as `request.user`, and requests from within the process."""

    def __init__(self, app: ASGIApp, *, authority: Authority, exempt: Callable[[Scope], bool] | None = None) -> None:
        """Wrap an app.

        Args:
            app: what is behind.
            authority: knows who somebody is.
            exempt: says which requests pass without being looked at; by default those to `PUBLIC` paths.
        """
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
            await self._app(scope, body.replay if is_request else receive, send)


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
        return await read_json(await request.body(), small=orjson.loads)
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
