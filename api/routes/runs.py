"""Runs on threads: `client.runs` with a thread id."""

import asyncio
import contextlib
from typing import Annotated, Any

from fastapi import Query, Request
from starlette.responses import Response
from temporalio.client import WorkflowFailureError
from temporalio.service import RPCError

from durathread.api.auth.authorization import Caller, CallerDep
from durathread.api.deps import RunId, Server, ServerDep, ThreadId, existing_run, existing_thread, listed
from durathread.api.http.error_answers import problems
from durathread.api.http.json_answers import Json, run_json, selected
from durathread.api.openapi.described import (
    EVENTS,
    IDEMPOTENCY_KEY,
    LAST_EVENT_ID,
    SELECT,
    STOPPING,
    STREAM_END,
    STREAM_MODE,
    parameters,
)
from durathread.api.openapi.schemas import RunModel, selection_of
from durathread.api.services.launch import cancel as cancel_runs
from durathread.api.services.launch import launch
from durathread.api.services.repeated_requests import KeyedRoutes
from durathread.api.services.rest import at_rest
from durathread.api.services.run_result import observed, outcome
from durathread.api.services.searching import MOST, integer
from durathread.api.services.self_waits import callers, refuse_circle
from durathread.api.streaming.run_stream import follow, resumed_from, run_headers, watch
from durathread.api.streaming.sse import event_stream, padded_json, wants_end
from durathread.db import admission, runs
from durathread.db.admission import CancelAction
from durathread.db.pool import connection, transaction
from durathread.errors import Conflict, Invalid, NotFound
from durathread.records import JsonObject, Run
from durathread.runs.request import RunCreate
from durathread.temporal.connection import run_workflow_id

router = KeyedRoutes(prefix="/threads/{thread_id}/runs", tags=["Runs"])

SELECTABLE = (
    "run_id",
    "thread_id",
    "assistant_id",
    "created_at",
    "updated_at",
    "status",
    "metadata",
    "kwargs",
    "multitask_strategy",
    "langsmith_session_name",
    "cancel_reason",
)
# What a run has left when its client leaves, in seconds. A page that sends a message to replace another (`useStream`
# does) leaves the stream first: the run must still be in flight then, or it could not be rolled back.
PARTING = 0.5
TRUE = ("true", "yes", "1")


@router.post(
    "", response_model=RunModel, responses=problems(400, 404, 409, 429), openapi_extra=parameters(IDEMPOTENCY_KEY)
)
async def create(thread_id: ThreadId, body: RunCreate, server: ServerDep, caller: CallerDep) -> Response:
    """Start a run in the background."""
    run = await launch(server, caller, body, thread_id=thread_id)
    return Json(run_json(run), headers={"content-location": run_headers(run, "join")["content-location"]})


@router.post(
    "/stream",
    responses={**problems(400, 404, 409, 429), **EVENTS},
    response_class=Response,
    openapi_extra=parameters(STREAM_END, IDEMPOTENCY_KEY),
)
async def stream(
    thread_id: ThreadId, body: RunCreate, request: Request, server: ServerDep, caller: CallerDep
) -> Response:
    """Start a run and stream its events (server-sent events)."""
    run = await launch(server, caller, body, thread_id=thread_id, waits=True)
    return event_stream(
        follow(server, run, ended=not run.in_flight),
        with_ids=body.stream_resumable,
        with_end=wants_end(request),
        headers=run_headers(run, "stream"),
        gone=canceller(server, run) if body.on_disconnect == "cancel" else None,
    )


@router.post(
    "/wait", response_model=Any, responses=problems(400, 404, 409, 429), openapi_extra=parameters(IDEMPOTENCY_KEY)
)
async def wait(thread_id: ThreadId, body: RunCreate, server: ServerDep, caller: CallerDep) -> Response:
    """Start a run and answer with its output. Newlines come first while it works."""
    run = await launch(server, caller, body, thread_id=thread_id, waits=True)
    return padded_json(
        observed(server, run.thread_id, run.run_id),
        headers=run_headers(run, "join"),
        gone=canceller(server, run) if body.on_disconnect == "cancel" else None,
    )


@router.get(
    "",
    response_model=list[selection_of(RunModel)],
    responses=problems(400, 404),
    openapi_extra=parameters(SELECT),
)
async def list_runs(
    thread_id: ThreadId,
    request: Request,
    server: ServerDep,
    caller: CallerDep,
    limit: Annotated[str, Query(description="1 to 1000.")] = "10",
    offset: Annotated[str, Query(description="0 or more.")] = "0",
    status: str | None = None,
) -> Response:
    """List the runs of a thread, newest first."""
    select = _selection(listed(request, "select"))
    value: JsonObject = {
        "thread_id": thread_id,
        "metadata": {},
        "status": status or None,
        "limit": integer(limit, "limit", least=1, most=MOST),
        "offset": integer(offset, "offset", least=0, most=2**31),
    }
    visible_to = await caller.ask("threads", "search", value)
    await existing_thread(server, thread_id, visible_to=visible_to)
    async with connection(server.pool) as conn:
        found = await runs.listed(
            conn,
            thread_id,
            status=value["status"],
            limit=value["limit"],
            offset=value["offset"],
            with_input=not select or "kwargs" in select,
        )
    return Json([selected(run_json(run), select) for run in found])


@router.get("/{run_id}", response_model=RunModel, responses=problems(404))
async def get(thread_id: ThreadId, run_id: RunId, server: ServerDep, caller: CallerDep) -> Response:
    """Get a run."""
    visible_to = await caller.may_read(thread_id, run_id)
    return Json(run_json(await existing_run(server, thread_id, run_id, visible_to=visible_to, with_input=True)))


@router.get("/{run_id}/join", response_model=Any, responses=problems(404))
async def join(
    thread_id: ThreadId, run_id: RunId, server: ServerDep, caller: CallerDep, cancel_on_disconnect: str = "false"
) -> Response:
    """Wait for a run's end and answer with its output. Newlines come first while it works."""
    visible_to = await caller.may_read(thread_id, run_id)
    run = await existing_run(server, thread_id, run_id, visible_to=visible_to, hidden=True)
    await refuse_waiting(server, caller, run)
    gone = await _ending(server, caller, run) if cancel_on_disconnect.lower() in TRUE else None
    return padded_json(
        outcome(server, thread_id, run_id),
        headers=run_headers(run, "join"),
        gone=gone,
    )


@router.get(
    "/{run_id}/stream",
    responses={**problems(404), **EVENTS},
    response_class=Response,
    openapi_extra=parameters(LAST_EVENT_ID, STREAM_MODE, STREAM_END),
)
async def join_stream(
    thread_id: ThreadId,
    run_id: RunId,
    request: Request,
    server: ServerDep,
    caller: CallerDep,
    cancel_on_disconnect: str = "false",
) -> Response:
    """Watch a run that was started before (server-sent events)."""
    visible_to = await caller.may_read(thread_id, run_id)
    run = await existing_run(server, thread_id, run_id, visible_to=visible_to, hidden=True)
    await refuse_waiting(server, caller, run)
    gone = await _ending(server, caller, run) if cancel_on_disconnect.lower() in TRUE else None
    modes = listed(request, "stream_mode", "stream_modes")
    after, warning = resumed_from(request)
    return event_stream(
        await watch(server, run, after=after, modes=modes),
        with_ids=run.options.resumable,
        with_end=wants_end(request),
        headers={**run_headers(run, "stream"), **warning},
        gone=gone,
    )


@router.post("/{run_id}/cancel", response_model=Any, responses={**problems(404), **STOPPING})
async def cancel(
    thread_id: ThreadId,
    run_id: RunId,
    request: Request,
    server: ServerDep,
    caller: CallerDep,
    wait: Annotated[str, Query(description="Whether to wait until the run has stopped.")] = "false",
    action: str = "interrupt",
) -> Response:
    """Cancel a run: keep what it did (`interrupt`), or undo it (`rollback`)."""
    chosen: CancelAction = "rollback" if action == "rollback" else "interrupt"
    reason = f"{chosen} requested via POST {request.url.path}"
    visible_to = await caller.may_cancel(thread_id, [run_id], action=chosen)
    async with connection(server.pool) as conn:
        known = await runs.find(conn, run_id, visible_to=visible_to)
    if known is None or known.thread_id != thread_id:
        raise NotFound(f"Run with ID {run_id} not found: nothing to cancel.")
    ended = await cancel_runs(server, thread_id, run_ids=[run_id], action=chosen, reason=reason, visible_to=visible_to)
    if not ended:
        raise NotFound(f"Run with ID {run_id} cannot be cancelled: it has ended ({known.status}).")
    if wait.lower() not in TRUE:
        return Response(status_code=202)
    return padded_json(_stopped(server, ended[0]), headers=run_headers(ended[0], "join"))


@router.delete("/{run_id}", status_code=204, responses=problems(404, 409))
async def delete(thread_id: ThreadId, run_id: RunId, server: ServerDep, caller: CallerDep) -> Response:
    """Delete a run that has ended, with its checkpoints."""
    visible_to = await caller.may_delete(thread_id, run_id)
    async with transaction(server.pool) as conn:
        found = await admission.delete(conn, thread_id, run_id, visible_to=visible_to)
    if found is None:
        raise NotFound(f"Run with ID {run_id} not found")
    if found.in_flight:
        raise Conflict("The run is in flight: cancel it first.")
    return Response(status_code=204)


def canceller(server: Server, run: Run) -> Any:
    """Build what interrupts a run when its client has left."""

    async def cancel_later() -> None:
        await asyncio.sleep(PARTING)
        reason = "the client disconnected"
        await cancel_runs(server, run.thread_id, run_ids=[run.run_id], action="interrupt", reason=reason)

    return lambda: server.spawn(cancel_later(), name="the cancellation of a run whose client has left")


async def refuse_waiting(server: Server, caller: Caller, run: Run) -> None:
    """Refuse a node that would wait for a run that waits for the node's own.

    Raises:
        Conflict: it would.
    """
    if caller.run_id is not None and run.in_flight:
        async with connection(server.pool) as conn:
            await refuse_circle(conn, await callers(conn, caller), run.thread_id, run)


async def _ending(server: Server, caller: Caller, run: Run) -> Any:
    """Build what interrupts a run when somebody who joined it has left, if they may."""
    visible_to = await caller.may_cancel(run.thread_id, [run.run_id])
    await existing_run(server, run.thread_id, run.run_id, visible_to=visible_to, hidden=True)
    return canceller(server, run)


async def _stopped(server: Server, run: Run) -> Any:
    """Wait until a cancelled run has stopped, and its thread shows what it left."""
    with contextlib.suppress(TimeoutError, WorkflowFailureError, RPCError):
        async with asyncio.timeout(server.settings.cancel_grace + 1):
            await server.temporal.get_workflow_handle(run_workflow_id(run.run_id)).result()
    await at_rest(server.hub, str(run.run_id))
    return {}


def _selection(select: list[str]) -> list[str]:
    if unknown := [name for name in select if name not in SELECTABLE]:
        raise Invalid(f"select: unknown field {', '.join(unknown)}")
    return select
