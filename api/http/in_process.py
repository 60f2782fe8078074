"""Requests that come from within the process: they are not authenticated.

Who runs in the server's process can do all that the server can. Such requests are recognised by the object below in
their ASGI scope: no header, path or query puts an object there, and `in_process` is the only one that does.
"""

from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

KEY = "durathread.in_process"
MARK = object()


def in_process(app: ASGIApp) -> ASGIApp:
    """Wrap an app for the SDK's `configure_loopback_transports`: its requests pass without authentication."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        # The SDK's transport says `root_path="/noauth"`: here it is no part of any path.
        await app({**scope, KEY: MARK, "root_path": ""}, receive, send)

    return wrapped


def is_in_process(scope: Mapping[str, Any]) -> bool:
    """Say whether a request came through `in_process`."""
    return scope.get(KEY) is MARK
