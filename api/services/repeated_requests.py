"""`Idempotency-Key`: a request that makes something is carried out once, however often it is sent.

As the IETF's draft of that header has it. A repetition that comes while the first is at work waits for the transaction that
makes it, and gets the same; streams and waits join the first one's run.
"""

import asyncio
from hashlib import sha256
from typing import Any

from fastapi import Request
from fastapi.routing import APIRouter
from starlette.responses import Response, StreamingResponse
from starlette.types import Message

from durathread.api.auth.authorization import IDEMPOTENCY, Caller, get_caller
from durathread.api.deps import Server, get_server
from durathread.api.http.bodies import LARGE, Handler, Route
from durathread.api.http.entrance import route_path
from durathread.api.http.error_answers import problem
from durathread.api.http.json_answers import Encoded
from durathread.api.openapi.described import IDEMPOTENCY_KEY
from durathread.db import idempotency
from durathread.db.idempotency import Claim, Key
from durathread.db.pool import connection
from durathread.errors import BadRequest, Error, Gone, Invalid
from durathread.records import JsonObject

HEADER = "idempotency-key"
# Of a request's scope: that nothing has come of it.
FRUITLESS = "durathread.fruitless"
LONGEST = 255
# A larger answer is made anew from what there is, in bytes.
LARGEST = 256 * 1024
# What asks to be tried again, and what may be allowed the next time.
PASSING = (401, 408, 425, 429)
# What the answer says besides, for clients to find it.
REPLAYED = ("idempotency-replayed", "true")


class KeyedRoute(Route):
    """Carries out a request once, if its description has the header and the request has it, too."""

    def get_route_handler(self) -> Handler:
        """Wrap the handler that FastAPI builds."""
        handle = super().get_route_handler()
        if IDEMPOTENCY_KEY not in (self.openapi_extra or {}).get("parameters", []):
            return handle

        async def handler(request: Request) -> Response:
            given = request.headers.get(HEADER)
            return await handle(request) if given is None else await _once(_key(given), request, handle)

        return handler


class KeyedRoutes(APIRouter):
    """A router of such routes."""

    def __init__(self, **options: Any) -> None:
        """Take FastAPI's options."""
        super().__init__(route_class=KeyedRoute, **options)


async def _once(key: str, request: Request, handle: Handler) -> Response:
    server = await get_server(request)
    # Nobody's key is looked at before it is known whose it is.
    caller = await get_caller(request, server)
    body = await request.body()
    claim = await _claim(server, caller, request, key=key, body=body)
    if claim.answer is not None:
        return _again(claim.answer)
    request.scope[IDEMPOTENCY] = claim.key
    try:
        response = await handle(Request(request.scope, _replay(request, body)))
    except Error as error:
        # Of what is gone the answer was another.
        if not _is_final(error.status) or isinstance(error, Gone):
            raise
        response = problem(error.status, str(error))
    if isinstance(response, StreamingResponse) or not _is_final(response.status_code) or FRUITLESS in request.scope:
        return response
    return await _kept(server, claim.key, response)


async def _claim(server: Server, caller: Caller, request: Request, *, key: str, body: bytes) -> Claim:
    """Note a request.

    Raises:
        Invalid: the key was given with another.
    """
    whose = f"user {caller.user.identity}" if caller.user else f"run {caller.run_id}" if caller.call else ""
    scope = sha256(f"{whose}\n{request.method} {route_path(request.scope)}".encode("utf-8", "replace")).hexdigest()
    fingerprint = await _fingerprint(request.scope.get("query_string", b""), body)
    async with connection(server.pool) as conn:
        claim = await idempotency.claim(conn, scope, key, fingerprint=fingerprint)
    if claim.fingerprint != fingerprint:
        raise Invalid("This Idempotency-Key was given with another request: take another key, or send the same again.")
    return claim


async def _fingerprint(query: bytes, body: bytes) -> bytes:
    digest = sha256(query + b"\n")
    if len(body) > LARGE:
        await asyncio.to_thread(digest.update, body)
    else:
        digest.update(body)
    return digest.digest()


def _key(given: str) -> str:
    """Read the header: a string of structured headers, in quotes, or what stands between them.

    Raises:
        BadRequest: it is no key.
    """
    key = given[1:-1] if len(given) > 1 and given[0] == given[-1] == '"' else given
    if not 0 < len(key) <= LONGEST or not key.isascii() or not key.isprintable():
        raise BadRequest(f"Invalid Idempotency-Key: must have 1 to {LONGEST} printable characters of ASCII")
    return key


def _is_final(status: int) -> bool:
    return status < 500 and status not in PASSING


def _replay(request: Request, body: bytes) -> Any:
    """Let the body be received once more, and then what comes after it."""
    first = True

    async def receive() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await request.receive()

    return receive


async def _kept(server: Server, key: Key, response: Response) -> Response:
    """Keep an answer, and return it; or the one that was kept meanwhile."""
    body = bytes(response.body)
    if len(body) > LARGEST:
        return response
    headers = [[name, value] for name, value in response.headers.items() if name != "content-length"]
    answer: JsonObject = {"status": response.status_code, "headers": headers, "body": body.decode()}
    async with connection(server.pool) as conn:
        first = await idempotency.keep(conn, key, answer)
    return response if first == answer else _again(first)


def _again(answer: JsonObject) -> Response:
    headers = {name: value for name, value in [*answer["headers"], REPLAYED]}
    return Encoded(answer["body"], status_code=answer["status"], headers=headers)
