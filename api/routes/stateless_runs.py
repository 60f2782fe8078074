"""Runs without a thread: `client.runs` with `thread_id=None`."""

from typing import Any
from uuid import UUID

from fastapi import Request
from starlette.responses import Response

from durathread.api.auth.authorization import Caller, CallerDep
from durathread.api.deps import RunId, ServerDep, existing_run
from durathread.api.http.error_answers import problems
from durathread.api.http.json_answers import Json, run_json
from durathread.api.openapi.described import EVENTS, IDEMPOTENCY_KEY, LAST_EVENT_ID, STREAM_END, parameters
from durathread.api.openapi.schemas import RunModel
from durathread.api.routes.runs import canceller, refuse_waiting
from durathread.api.services.launch import launch
from durathread.api.services.repeated_requests import KeyedRoutes
from durathread.api.services.run_result import observed
from durathread.api.streaming.run_stream import follow, resumed_from, run_headers, watch
from durathread.api.streaming.sse import event_stream, padded_json, wants_end
from durathread.db import runs
from durathread.db.pool import connection
from durathread.errors import NotFound
from durathread.records import Run
from durathread.runs.request import RunCreate

router = KeyedRoutes(prefix="/runs", tags=["Stateless runs"])


@router.post("", response_model=RunModel, responses=problems(400, 404, 429), openapi_extra=parameters(IDEMPOTENCY_KEY))
async def create(body: RunCreate, server: ServerDep, caller: CallerDep) -> Response:
    """Start a run in the background, on a thread of its own."""
    run = await launch(server, caller, body, thread_id=None)
    headers = run_headers(run, "join", stateless=True)
    return Json(run_json(run), headers={"content-location": headers["content-location"]})


@router.post(
    "/stream",
    responses={**problems(400, 404, 429), **EVENTS},
    response_class=Response,
    openapi_extra=parameters(STREAM_END, IDEMPOTENCY_KEY),
)
async def stream(body: RunCreate, request: Request, server: ServerDep, caller: CallerDep) -> Response:
    """Start a run on a thread of its own and stream its events (server-sent events)."""
    run = await launch(server, caller, body, thread_id=None, waits=True)
    return event_stream(
        follow(server, run, ended=not run.in_flight),
        with_ids=body.stream_resumable,
        with_end=wants_end(request),
        headers=run_headers(run, "stream", stateless=True),
        gone=canceller(server, run) if body.on_disconnect == "cancel" else None,
    )


@router.post("/wait", response_model=Any, responses=problems(400, 404, 429), openapi_extra=parameters(IDEMPOTENCY_KEY))
async def wait(body: RunCreate, server: ServerDep, caller: CallerDep) -> Response:
    """Start a run on a thread of its own and answer with its output."""
    run = await launch(server, caller, body, thread_id=None, waits=True)
    return padded_json(
        observed(server, run.thread_id, run.run_id),
        headers=run_headers(run, "join"),
        gone=canceller(server, run) if body.on_disconnect == "cancel" else None,
    )


@router.get(
    "/{run_id}/stream",
    responses={**problems(404), **EVENTS},
    response_class=Response,
    openapi_extra=parameters(LAST_EVENT_ID, STREAM_END),
)
async def join_stream(run_id: RunId, request: Request, server: ServerDep, caller: CallerDep) -> Response:
    """Watch a run, wherever it runs (server-sent events)."""
    run = await _existing(server, caller, run_id)
    await refuse_waiting(server, caller, run)
    after, warning = resumed_from(request)
    return event_stream(
        await watch(server, run, after=after),
        with_ids=run.options.resumable,
        with_end=wants_end(request),
        headers={**run_headers(run, "stream", stateless=True), **warning},
    )


async def _existing(server: ServerDep, caller: Caller, run_id: UUID) -> Run:
    async with connection(server.pool) as conn:
        found = await runs.find(conn, run_id)
    visible_to = await caller.ask("threads", "read", {"thread_id": found and found.thread_id, "run_id": run_id})
    if found is None:
        raise NotFound(f"Run with ID {run_id} not found")
    return await existing_run(server, found.thread_id, run_id, visible_to=visible_to, hidden=True)
