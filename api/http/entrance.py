"""How a request comes in: from outside through every layer, or from a client in this process straight to the routes."""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from durathread.api.http.error_answers import problem
from durathread.api.http.in_process import is_in_process

# Health is asked for by what does not know the prefix.
UNPREFIXED = ("/", "/ok", "/ready", "/metrics")
LOCATIONS = (b"location", b"content-location")
# What the `Location` of a response may name.
LOCATED = re.compile(r"/(threads|runs)/")


def route_path(scope: Scope) -> str:
    """Return the path of a request below where the app is mounted."""
    path = scope["path"]
    return _below(path, scope.get("root_path", "").rstrip("/")) or path


class Entrance:
    """Leads requests from outside through some layers, and those from within the process through others."""

    def __init__(self, app: ASGIApp, *, outside: Sequence[Middleware], inside: Sequence[Middleware]) -> None:
        """Wrap an app. The outermost layer is named first."""
        self._outside = _layered(app, outside)
        self._inside = _layered(app, inside)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        app = self._inside if is_in_process(scope) else self._outside
        await app(scope, receive, send)


def _layered(app: ASGIApp, layers: Sequence[Middleware]) -> ASGIApp:
    for cls, args, kwargs in reversed(layers):
        app = cls(app, *args, **kwargs)
    return app


class MountPrefix:
    """Serves an app under a prefix, and health also outside of it.

    The SDK's clients take a `Location` for a path below their base URL, as RFC 9110 does not. Ours is right by the RFC, so
    theirs begins with the prefix twice: that is served as well.
    """

    def __init__(self, app: ASGIApp, *, prefix: str) -> None:
        """Wrap an app."""
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        placed = self._placed(scope.get("root_path", "").rstrip("/"), route_path(scope))
        if placed is None:
            await _not_found(scope, receive, send)
            return
        root, below = placed
        # In place, as Starlette does it: the layers around are told the route by what it leaves in the scope.
        scope["root_path"], scope["path"] = root, root + below
        await self._app(scope, receive, send)

    def _placed(self, outer: str, path: str) -> tuple[str, str] | None:
        """Say below what a request is, and where there; None if it is not for us."""
        below = _below(path, self._prefix)
        if below is None:
            return (outer, path) if path in UNPREFIXED else None
        root = outer + self._prefix
        again = _below(below, root) if root else None
        return root, again if again and LOCATED.match(again) else below


class Located:
    """Puts the path that the app is mounted at before the paths that its headers name, and nothing before that."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an app."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        root = scope.get("root_path", "").rstrip("/").encode()
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def located(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [_located(root, *header) for header in message.get("headers", ())]}
            await send(message)

        await self._app(scope, receive, located)


def _located(root: bytes, name: bytes, value: bytes) -> tuple[bytes, bytes]:
    if name.lower() not in LOCATIONS:
        return name, value
    if value.startswith(b"/"):
        return name, root + value
    # Starlette, which leads away from a slash at the end of a path, believes what `Host` says.
    url = urlsplit(value)
    path = b"/" + url.path.lstrip(b"/\\")
    return name, path + b"?" + url.query if url.query else path


def _below(path: str, prefix: str) -> str | None:
    """Return what of a path is below a prefix; None if it is not."""
    if path == prefix:
        return "/"
    return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else None


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
        return
    await problem(404, "Not Found")(scope, receive, send)
