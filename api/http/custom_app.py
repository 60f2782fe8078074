"""The app of the user's own that langgraph.json names as `http.app`: its routes, middleware, handlers and lifespan."""

import copy
import inspect
from collections.abc import Mapping
from typing import Any, cast

from fastapi import FastAPI, exception_handlers
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from durathread.api.http.entrance import route_path
from durathread.api.http.error_answers import refused, unexpected
from durathread.config.http import Http
from durathread.errors import ConfigError
from durathread.graphs.registry import Graphs

CUSTOM = "durathread.custom"
# Ours, whatever the custom app has.
PROTECTED = ("/ok", "/ready", "/metrics", "/docs", "/openapi.json")
DEFAULTS = (
    exception_handlers.http_exception_handler,
    exception_handlers.request_validation_exception_handler,
    exception_handlers.websocket_request_validation_exception_handler,
)


def is_custom(scope: Scope) -> bool:
    """Say whether a route of the custom app answers a request."""
    return scope.get(CUSTOM) is not None


def owner(scope: Scope) -> Starlette:
    """Return the app that answers a request."""
    return scope.get(CUSTOM) or scope["app"]


def custom_app(graphs: Graphs, http: Http) -> Starlette | None:
    """Import the custom app, if there is one.

    Raises:
        ConfigError: it is none, or cannot be imported.
    """
    if http.app is None:
        return None
    found = graphs.variable(http.app, what="http.app")
    if not isinstance(found, Starlette):
        raise ConfigError(f"http.app ({http.app}) is a {type(found).__name__}, not a FastAPI or Starlette app.")
    return found


class Custom:
    """A custom app beside ours."""

    def __init__(self, theirs: Starlette, ours: FastAPI) -> None:
        """Look at both, and change neither."""
        self.app = theirs
        self._ours = ours
        # A mount of everything, as of a frontend, gets what neither app has a route for.
        self._everything = any(_is_everything(route) for route in theirs.routes)
        self._stack = _stack(theirs)

    @property
    def middleware(self) -> list[Middleware]:
        """Its middleware, which finds it as `request.app`."""
        return [Middleware(Belonging, self.app), *self.app.user_middleware, Middleware(Belonging, self._ours)]

    @property
    def exception_handlers(self) -> Mapping[Any, Any]:
        """What it has besides the defaults of FastAPI, for our routes."""
        handlers = self.app.exception_handlers.items()
        return {kind: self._lent(handler) for kind, handler in handlers if handler not in DEFAULTS}

    def _lent(self, handler: Any) -> Any:
        async def handle(connection: HTTPConnection, error: Exception) -> Any:
            connection.scope["app"] = self.app
            if inspect.iscoroutinefunction(handler):
                return await handler(connection, error)
            return await run_in_threadpool(handler, connection, error)

        return handle

    def answers(self, scope: Scope) -> bool:
        """Say whether a request is for one of its routes. They may shadow ours; only a mount of everything does not."""
        path = route_path(scope)
        if path in PROTECTED:
            return False
        own = [route for route in self.app.routes if not _is_everything(route)]
        if any(route.matches(scope)[0] is Match.FULL for route in own):
            return True
        if self._everything and path == "/":
            return True
        return not _known(self._ours.routes, scope)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with its routes."""
        scope["app"] = self.app
        await self._stack(scope, receive, send)


class Chosen:
    """Decides which app answers, before any other layer looks."""

    def __init__(self, app: ASGIApp, custom: Custom) -> None:
        """Wrap an app."""
        self._app = app
        self._custom = custom

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "lifespan":
            scope[CUSTOM] = self._custom.app if self._custom.answers(scope) else None
        await self._app(scope, receive, send)


class Switch:
    """Hands a request to the app that answers it."""

    def __init__(self, app: ASGIApp, custom: Custom) -> None:
        """Wrap our app."""
        self._app = app
        self._custom = custom

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        app = self._custom if is_custom(scope) else self._app
        await app(scope, receive, send)


class Belonging:
    """Sets what `request.app` is for the layers below, and tells those above which route was taken."""

    def __init__(self, app: ASGIApp, owner: Starlette) -> None:
        """Wrap an app."""
        self._app = app
        self._owner = owner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        below = {**scope, "app": self._owner}

        async def told(message: Message) -> None:
            if "route" in below:
                scope["route"] = below["route"]
            await send(message)

        await self._app(below, receive, told)


def _stack(app: Starlette) -> ASGIApp:
    """Build what an app does with its routes, without its middleware: that is around ours as well."""
    bare = copy.copy(app)
    bare.user_middleware = []
    handlers: dict[Any, Any] = {HTTPException: refused, **app.exception_handlers}
    if 500 not in handlers:
        handlers.setdefault(Exception, unexpected)
    bare.exception_handlers = cast(Any, handlers)
    return bare.build_middleware_stack()


def _is_everything(route: BaseRoute) -> bool:
    return isinstance(route, Mount) and route.path == ""


def _known(routes: list[BaseRoute], scope: Scope) -> bool:
    """Say whether there is a route for a path, whatever the method, and with or without a slash at its end."""
    path = scope["path"]
    spelled = (path, path.rstrip("/") if path.endswith("/") else f"{path}/")
    return any(route.matches({**scope, "path": each})[0] is not Match.NONE for each in spelled for route in routes)
