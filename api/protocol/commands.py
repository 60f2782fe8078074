"""The commands of the streaming protocol: `client.threads.stream().run` and what JavaScript sends."""

from collections.abc import Awaitable, Callable
from uuid import UUID

import structlog
from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from durathread.api.auth.authorization import Caller, CallerDep
from durathread.api.deps import Server, ServerDep, ThreadId
from durathread.api.http.envelopes import Code, Command, Malformed, Refused, failed, succeeded
from durathread.api.http.error_answers import problems
from durathread.api.http.json_answers import Json
from durathread.api.openapi.described import IDEMPOTENCY_KEY, MALFORMED, parameters
from durathread.api.protocol.run_commands import input_inject, input_respond, run_start, state_fork
from durathread.api.protocol.state_commands import agent_get_tree, state_get, state_list_checkpoints
from durathread.api.protocol.thread_frames import applied
from durathread.api.services.repeated_requests import FRUITLESS, KeyedRoutes
from durathread.db import threads
from durathread.db.pool import connection
from durathread.errors import Error
from durathread.records import JsonObject

log = structlog.get_logger()

router = KeyedRoutes(prefix="/threads/{thread_id}", tags=["Threads"])

Carry = Callable[[Server, Caller, UUID, JsonObject], Awaitable[JsonObject]]
METHODS: dict[str, Carry] = {
    "run.start": run_start,
    "input.respond": input_respond,
    "input.inject": input_inject,
    "state.get": state_get,
    "state.listCheckpoints": state_list_checkpoints,
    "state.fork": state_fork,
    "agent.getTree": agent_get_tree,
}
# What succeeds without a thread. The others fail, and then say nothing of where its events are.
READING = ("state.get", "state.listCheckpoints", "agent.getTree")
SUBSCRIPTIONS = ("subscription.subscribe", "subscription.unsubscribe", "subscription.reconnect")
CODES: dict[int, Code] = {
    400: "invalid_argument",
    401: "permission_denied",
    403: "permission_denied",
    404: "invalid_argument",
    409: "invalid_argument",
    422: "invalid_argument",
}


@router.post("/commands", responses={**problems(404), **MALFORMED}, openapi_extra=parameters(IDEMPOTENCY_KEY))
async def command(thread_id: ThreadId, request: Request, server: ServerDep, caller: CallerDep) -> Response:
    """Carry out a command of the streaming protocol. An error is an answer too, with status 200."""
    try:
        asked = await Command.read(await request.body())
    except Malformed as error:
        return Json(failed(error.command_id, error), status_code=400)
    answer = await carry_out(server, caller, thread_id, asked)
    if answer["type"] == "error":
        request.scope[FRUITLESS] = True
    return Json(answer)


async def carry_out(server: Server, caller: Caller, thread_id: UUID, asked: Command) -> JsonObject:
    """Carry out a command, and return the answer."""
    try:
        carry = METHODS.get(asked.method)
        if carry is None:
            raise _unknown(asked.method)
        # Before the command: what it brings about comes after.
        seq = await _applied(server, caller, thread_id, asked.method)
        return succeeded(asked.command_id, await carry(server, caller, thread_id, asked.params), seq=seq)
    except (Refused, Error, HTTPException) as error:
        return failed(asked.command_id, refusal_of(error))
    except Exception:
        log.exception("A command failed", method=asked.method)
        return failed(asked.command_id, Refused("unknown_error", "Internal Server Error"))


async def _applied(server: Server, caller: Caller, thread_id: UUID, method: str) -> int:
    """Return what `applied` says; of a thread that the caller may not read, what it says of none."""
    if method in READING:
        visible_to = await caller.may_read(thread_id)
        async with connection(server.pool) as conn:
            if visible_to is not None and await threads.get(conn, thread_id, visible_to=visible_to) is None:
                return 0
    return await applied(server, thread_id)


def refusal_of(error: Refused | Error | HTTPException) -> Refused:
    """Say by the protocol's codes why something is not done."""
    if isinstance(error, Refused):
        return error
    status = error.status if isinstance(error, Error) else error.status_code
    said = str(error) if isinstance(error, Error) else str(error.detail)
    return Refused(CODES.get(status, "unknown_error"), said)


def _unknown(method: str) -> Refused:
    if method in SUBSCRIPTIONS:
        return Refused("not_supported", f"{method} needs a WebSocket; over HTTP each event stream is a subscription")
    return Refused("unknown_command", f"Unknown command '{method}'")
