"""What a request puts into `configurable` by its headers, and the id of the request."""

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import orjson
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from durathread.api.auth.authorization import ANYBODY, KEY, Caller
from durathread.api.http.entrance import route_path
from durathread.api.http.origins import SIGNED_IN
from durathread.config.http import HeaderRule
from durathread.records import JsonObject
from durathread.runs.request import CHECKPOINT_ADDRESS, RESERVED_PREFIXES

REQUEST_ID, CONFIGURED_ID = "x-request-id", "langgraph_request_id"
# Credentials are for the server, not for graphs and the checkpoints that they leave.
CREDENTIAL_HEADERS = ("authorization", "x-api-key", "x-tenant-id", "x-service-key", "cookie", "proxy-authorization")
OURS = (*CHECKPOINT_ADDRESS, "run_id", "thread_id", "graph_id", "assistant_id", "user_id", "cron_id")
TRACE = "langsmith-trace"

_forwarded: ContextVar[Mapping[str, Any]] = ContextVar("forwarded headers", default=MappingProxyType({}))


def forwarded() -> Mapping[str, Any]:
    """Return what the current request puts into `configurable`: some of its headers, its id, and who sends it."""
    return _forwarded.get()


def lasting() -> JsonObject:
    """Return what of it holds for a cron's runs as well: not what is of this request alone."""
    return {
        name: value
        for name, value in forwarded().items()
        if name not in (REQUEST_ID, CONFIGURED_ID) and not name.startswith("langsmith-")
    }


class RequestIds:
    """Gives every request that may run a graph an id, unless its client has, and says it in the response."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an app."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        request_id = Headers(scope=scope).get(REQUEST_ID)
        if request_id is None and route_path(scope).startswith(("/runs", "/threads")):
            request_id = str(uuid4())
            scope["headers"] = [*scope["headers"], (REQUEST_ID.encode(), request_id.encode())]

        async def named(message: Message) -> None:
            if request_id is not None and message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault(REQUEST_ID, request_id)
            await send(message)

        await self._app(scope, receive, named)


class Forwarding:
    """Notes what a request puts into `configurable`, for every graph that is opened for it."""

    def __init__(self, app: ASGIApp, *, rule: HeaderRule) -> None:
        """Wrap an app."""
        self._app = app
        self._rule = rule

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        caller: Caller = scope.get(KEY, ANYBODY)
        token = _forwarded.set({**configurable(Headers(scope=scope), self._rule), **caller.configurable})
        try:
            await self._app(scope, receive, send)
        finally:
            _forwarded.reset(token)


def configurable(headers: Headers, rule: HeaderRule) -> JsonObject:
    """Choose what of headers goes into `configurable`: what traces, what the rule covers, and the id of the request."""
    found: JsonObject = {}
    for name in dict.fromkeys(headers.keys()):
        if (
            rule.covers(name)
            and name not in (*CREDENTIAL_HEADERS, *SIGNED_IN, *OURS)
            and not name.startswith(RESERVED_PREFIXES)
        ):
            found[name] = ", ".join(headers.getlist(name))
    found |= _tracing(headers)
    if request_id := headers.get(REQUEST_ID):
        found[CONFIGURED_ID] = request_id
    return found


def _tracing(headers: Headers) -> JsonObject:
    """Read what LangSmith's clients send along, so that a graph can continue the trace of its caller."""
    found: JsonObject = {TRACE: headers[TRACE]} if TRACE in headers else {}
    for item in headers.get("baggage", "").split(","):
        name, _, value = item.strip().partition("=")
        text = unquote(value)
        if name == "langsmith-metadata":
            found |= {name: metadata} if (metadata := _object(text)) else {}
        elif name == "langsmith-tags":
            found[name] = text.split(",")
        elif name == "langsmith-project":
            found[name] = text
    return found


def _object(text: str) -> JsonObject | None:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
