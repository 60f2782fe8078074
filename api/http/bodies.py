"""The bodies of requests: how they are read, and what is refused before anybody looks at it."""

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, cast

import orjson
from fastapi import APIRouter, HTTPException
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from durathread.encode import exact, loads
from durathread.errors import Invalid
from durathread.records import JsonObject

# From so many bytes on a body is read in a thread.
LARGE = 1024 * 1024
# Lists and objects in a body. Each is an allocation under Python's lock, whatever thread reads it: 10 million, which 30 MB
# have room for, would hold up everybody for seconds, and a million for a fifth of one.
MOST_CONTAINERS = 1_000_000
# Lists and objects in each other. JSON is written to 254 levels, of which some are ours.
DEEPEST = 200
DEPTH_LIMIT = "depth limit"
STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"')

Loads = Callable[[bytes], Any]
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class JsonRequest(Request):
    """A request whose body is read away from the event loop when it is large."""

    async def json(self) -> Any:
        """Read the body.

        Raises:
            JSONDecodeError: it is not JSON.
            HTTPException: it is nested too deep, or has too many parts.
        """
        try:
            return await read_json(await self.body())
        except Invalid as error:
            # Nothing else leaves FastAPI's own reading as it is.
            raise HTTPException(error.status, str(error)) from error


class Route(APIRoute):
    """Hands its endpoint such requests."""

    def get_route_handler(self) -> Handler:
        """Wrap the handler that FastAPI builds."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return handler


class Routes(APIRouter):
    """A router of such routes."""

    def __init__(self, **options: Any) -> None:
        """Take FastAPI's options."""
        super().__init__(route_class=Route, **options)


async def read_json(body: bytes, *, small: Loads = exact) -> Any:
    """Read JSON; a large text in a thread, one that is not with `small`. Integers may be of any size; NaN is not JSON.

    Raises:
        JSONDecodeError: it is not JSON.
        Invalid: it is nested too deep, or has too many parts.
    """
    return await asyncio.to_thread(_read, body, _quick(small)) if len(body) > LARGE else _read(body, small)


def _quick(small: Loads) -> Loads:
    """Read JSON several times as fast as another reader, and to the same: what might be different is left to that."""

    def quick(body: bytes) -> Any:
        try:
            return loads(body)
        except orjson.JSONDecodeError as error:
            if DEPTH_LIMIT in str(error):
                raise
            return small(body)

    return quick


def _read(body: bytes, loads: Loads) -> Any:
    brackets = body.count(b"[") + body.count(b"{")
    if brackets > MOST_CONTAINERS:
        bare = STRINGS.sub(b"", body)
        if bare.count(b"[") + bare.count(b"{") > MOST_CONTAINERS:
            raise Invalid(f"The request body has too many parts: the limit is {MOST_CONTAINERS} lists and objects")
    try:
        found = loads(body)
    except RecursionError:
        raise _too_deep() from None
    except orjson.JSONDecodeError as error:
        if DEPTH_LIMIT in str(error):
            raise _too_deep() from None
        raise
    if brackets > DEEPEST and _is_deep(found):
        raise _too_deep()
    return found


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        # Only what holds something: numbers and strings may be millions.
        level = [inner for outer in level for inner in _parts(outer) if isinstance(inner, dict | list)]
        if not level:
            return False
    return True


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return cast(JsonObject, value).values()
    return cast(list[Any], value) if isinstance(value, list) else ()


def _too_deep() -> Invalid:
    return Invalid(f"The request body is nested too deep: the limit is {DEEPEST} levels")
