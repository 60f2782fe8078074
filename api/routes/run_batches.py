"""Many runs at once: `client.runs.create_batch` and `client.runs.cancel_many`."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field
from starlette.responses import Response

from durathread.api.auth.authorization import CallerDep
from durathread.api.deps import Server, ServerDep
from durathread.api.http.error_answers import problems
from durathread.api.http.json_answers import Json, run_json
from durathread.api.openapi.described import IDEMPOTENCY_KEY, parameters
from durathread.api.openapi.schemas import RunModel
from durathread.api.services.launch import cancel as cancel_runs
from durathread.api.services.launch import launch_all
from durathread.api.services.repeated_requests import KeyedRoutes
from durathread.api.services.searching import MOST
from durathread.db import runs
from durathread.db.admission import CancelAction
from durathread.db.filters import Filter
from durathread.db.pool import connection
from durathread.errors import Invalid, NotFound
from durathread.records import IN_FLIGHT, RunStatus
from durathread.runs.request import Body, RunCreate, UuidText

router = KeyedRoutes(prefix="/runs", tags=["Stateless runs"])

# Threads whose runs are cancelled at once: each takes a connection.
AT_ONCE = 8


class RunsCancel(Body):
    """Which runs to cancel: those of a status, or some of one thread."""

    status: Literal["pending", "running", "all"] | None = None
    thread_id: UuidText | None = None
    run_ids: Annotated[list[UuidText], Field(max_length=MOST)] | None = None


@router.post(
    "/batch",
    response_model=list[RunModel],
    responses=problems(400, 404, 429),
    openapi_extra=parameters(IDEMPOTENCY_KEY),
)
async def create_batch(
    body: Annotated[list[RunCreate], Field(min_length=1, max_length=MOST)], server: ServerDep, caller: CallerDep
) -> Response:
    """Start several runs in the background, each on a thread of its own: all of them, or none."""
    return Json([run_json(run) for run in await launch_all(server, caller, body)])


@router.post("/cancel", status_code=204, responses=problems(404))
async def cancel_many(body: RunsCancel, server: ServerDep, caller: CallerDep, action: str = "interrupt") -> Response:
    """Cancel runs: keep what they did (`interrupt`), or undo it (`rollback`)."""
    by_id = body.thread_id is not None and body.run_ids is not None
    if by_id == (body.status is not None) or (body.thread_id is None) != (body.run_ids is None):
        raise Invalid("Name either a status, or a thread_id and run_ids.")
    chosen: CancelAction = "rollback" if action == "rollback" else "interrupt"
    statuses: Sequence[RunStatus] = IN_FLIGHT
    if body.thread_id is not None and body.run_ids is not None:
        thread_id, run_ids = UUID(body.thread_id), [UUID(run_id) for run_id in body.run_ids]
        visible_to = await caller.may_cancel(thread_id, run_ids, action=chosen)
        wanted: Mapping[UUID, list[UUID]] = {thread_id: run_ids}
    else:
        visible_to = await caller.may_cancel(None, action=chosen, status=body.status)
        statuses = IN_FLIGHT if body.status in ("all", None) else (body.status,)
        async with connection(server.pool) as conn:
            wanted = await runs.with_status(conn, statuses, visible_to=visible_to)
    if not await _cancel(server, wanted, action=chosen, statuses=statuses, visible_to=visible_to):
        raise NotFound("No runs found to cancel.")
    return Response(status_code=204)


async def _cancel(
    server: Server,
    wanted: Mapping[UUID, list[UUID]],
    *,
    action: CancelAction,
    statuses: Sequence[RunStatus],
    visible_to: Filter | None,
) -> int:
    """Cancel runs by thread; return how many were in flight."""
    turns = asyncio.Semaphore(AT_ONCE)
    reason = f"{action} requested via POST /runs/cancel"

    async def one(thread_id: UUID, run_ids: list[UUID]) -> int:
        async with turns:
            ended = await cancel_runs(
                server,
                thread_id,
                run_ids=run_ids,
                action=action,
                reason=reason,
                statuses=statuses,
                visible_to=visible_to,
            )
            return len(ended)

    return sum(await asyncio.gather(*(one(*each) for each in wanted.items())))
