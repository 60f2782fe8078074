"""Crons: `client.crons`."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal, cast
from uuid import UUID

from pydantic import Field
from starlette.responses import Response
from uuid_utils.compat import uuid7

from durathread.api.auth.authorization import Caller, CallerDep, require_own, stamped
from durathread.api.deps import CronId, Server, ServerDep, ThreadId
from durathread.api.http.error_answers import problems
from durathread.api.http.json_answers import Json, cron_json, selected
from durathread.api.openapi.described import IDEMPOTENCY_KEY, parameters
from durathread.api.openapi.schemas import CronModel, selection_of
from durathread.api.services.allowances import room_of
from durathread.api.services.launch import allow
from durathread.api.services.repeated_requests import KeyedRoutes
from durathread.api.services.request_headers import lasting
from durathread.api.services.searching import Page, SortOrder, page
from durathread.crons.expression import next_run_date
from durathread.crons.schedules import publish
from durathread.db import crons, idempotency, stored, threads
from durathread.db.filters import Filter
from durathread.db.pool import connection, transaction
from durathread.errors import BadRequest, Gone, Invalid, NotFound, Unavailable
from durathread.records import Assistant, Cron, JsonObject, NewRun
from durathread.runs.deletion import unschedule
from durathread.runs.of_crons import SIGNED, CronCreate, CronPatch, payload_of, run_of
from durathread.runs.policies import Terms
from durathread.runs.request import Body, UuidText, assistant_id_of, find_assistant

router = KeyedRoutes(tags=["Crons"])

Shown = Literal[
    "cron_id",
    "assistant_id",
    "thread_id",
    "user_id",
    "end_time",
    "schedule",
    "timezone",
    "payload",
    "next_run_date",
    "metadata",
    "on_run_completed",
    "enabled",
    "created_at",
    "updated_at",
    "now",
]
# The fields of a cron that a patch replaces; all else that it has is for the payload.
OWN = ("schedule", "timezone", "end_time", "enabled")


class CronFilter(Body):
    """Which crons to find."""

    assistant_id: UuidText | None = None
    thread_id: UuidText | None = None
    enabled: bool | None = None
    metadata: dict[str, object] = Field(default_factory=dict[str, object])


class CronSearch(CronFilter, Page):
    """Which crons to find, and how to show them."""

    sort_by: crons.SortBy = "created_at"
    sort_order: SortOrder = "desc"
    select: list[Shown] | None = None


@router.post(
    "/runs/crons",
    response_model=CronModel,
    responses=problems(400, 404, 429),
    openapi_extra=parameters(IDEMPOTENCY_KEY),
)
async def create(body: CronCreate, server: ServerDep, caller: CallerDep) -> Response:
    """Start a run again and again, each time on a thread of its own."""
    return Json(cron_json(await _create(server, caller, body, thread_id=None)))


@router.post(
    "/threads/{thread_id}/runs/crons",
    response_model=CronModel,
    responses=problems(400, 404, 429),
    openapi_extra=parameters(IDEMPOTENCY_KEY),
)
async def create_for_thread(thread_id: ThreadId, body: CronCreate, server: ServerDep, caller: CallerDep) -> Response:
    """Start a run again and again on a thread."""
    return Json(cron_json(await _create(server, caller, body, thread_id=thread_id)))


@router.post("/runs/crons/search", response_model=list[selection_of(CronModel)])
async def search(body: CronSearch, server: ServerDep, caller: CallerDep) -> Response:
    """Find crons."""
    filters, now = await _allowed(caller, body, limit=body.limit, offset=body.offset), datetime.now(UTC)
    async with connection(server.pool) as conn:
        if body.sort_by == "next_run_date":
            for cron in await crons.past(conn, now):
                await crons.put_next(conn, cron.cron_id, next_run_date(cron, now))
        total = await crons.count(conn, filters, at_most=body.reach)
        found = await crons.search(
            conn,
            filters,
            limit=body.limit,
            offset=body.offset,
            sort_by=body.sort_by,
            descending=body.sort_order == "desc",
        )
    told = {"now": now} if body.select else {}
    return page([selected({**cron_json(cron), **told}, body.select) for cron in found], asked=body, total=total)


@router.post("/runs/crons/count", response_model=int)
async def count(body: CronFilter, server: ServerDep, caller: CallerDep) -> Response:
    """Count crons."""
    filters = await _allowed(caller, body)
    async with connection(server.pool) as conn:
        return Json(await crons.count(conn, filters))


@router.get("/runs/crons/{cron_id}", response_model=CronModel, responses=problems(404))
async def get(cron_id: CronId, server: ServerDep, caller: CallerDep) -> Response:
    """Get a cron."""
    visible_to = await caller.ask("crons", "read", {"cron_id": cron_id})
    async with connection(server.pool) as conn:
        return Json(cron_json(_found(await crons.get(conn, cron_id, visible_to=visible_to), cron_id)))


@router.patch("/runs/crons/{cron_id}", response_model=CronModel, responses=problems(400, 404, 429))
async def patch(cron_id: CronId, body: CronPatch, server: ServerDep, caller: CallerDep) -> Response:
    """Change a cron from now on: what is given takes the place of what was, but `metadata` is merged, key by key."""
    given = body.model_dump(exclude_unset=True)
    if not given:
        raise BadRequest("There is nothing to change: give at least one field.")
    value: JsonObject = {"cron_id": cron_id, "payload": given, "schedule": given.get("schedule"), "metadata": {}}
    visible_to = await caller.ask("crons", "update", value)
    given = {**(value.get("payload") or {}), **({"schedule": value["schedule"]} if value.get("schedule") else {})}
    await server.require_temporal()
    room = await room_of(server, caller, creates=False)
    async with transaction(server.pool) as conn:
        before = _found(await crons.lock(conn, cron_id, visible_to=visible_to), cron_id)
        assistant = await find_assistant(conn, server.graphs, str(before.assistant_id))
        patched = _patched(before, given, stamp=value.get("metadata") or {})
        require_own(patched.metadata, visible_to)
        async with stored.room(conn, await stored.of_cron(conn, cron_id, room)):
            after = _found(await crons.revise(conn, _checked(patched, assistant, terms=server.terms)), cron_id)
    try:
        await _publish(server, cron_id)
    except Unavailable:
        async with transaction(server.pool) as conn:
            await crons.restore(conn, before, changed=after)
        raise
    return Json(cron_json(after))


@router.delete("/runs/crons/{cron_id}", status_code=204, responses=problems(404))
async def delete(cron_id: CronId, server: ServerDep, caller: CallerDep) -> Response:
    """Delete a cron. Runs that it has started go on."""
    visible_to = await caller.ask("crons", "delete", {"cron_id": cron_id})
    async with connection(server.pool) as conn:
        if not await crons.delete(conn, cron_id, visible_to=visible_to):
            raise NotFound(f"Cron with ID {cron_id} not found")
    await unschedule(server.temporal, [cron_id])
    return Response(status_code=204)


async def _create(server: Server, caller: Caller, body: CronCreate, *, thread_id: UUID | None) -> Cron:
    await server.require_temporal()
    try:
        assistant_id_of(server.graphs, body.assistant_id)
    except Invalid as error:
        raise NotFound(str(error)) from error
    # Whoever has runs started asks for them: here, as nobody is asked when they start.
    run = await allow(server, caller, body, thread_id=thread_id)
    new, visible_to = await _asked(caller, _new(caller, body, run.new, thread_id=thread_id))
    async with transaction(server.pool) as conn:
        made = await idempotency.begin(conn, caller.key)
        # Locked: whoever holds a thread may wait for their turn to write more, and a cron refers to its thread.
        if thread_id and await threads.lock(conn, thread_id, visible_to=run.visible_to) is None:
            raise NotFound("Thread or assistant not found.")
        new = replace(new, metadata=stamped({**new.metadata, **(visible_to.sole if visible_to else {})}, visible_to))
        allowance = replace(run.new.allowance, most=server.terms.most_crons)
        checked = _checked(new, run.new.assistant, terms=server.terms)
        if made:
            cron = await crons.get(conn, checked.cron_id)
            if cron is None:
                raise Gone("The cron that this Idempotency-Key has made is gone.")
        else:
            cron = await crons.insert(conn, checked, allowance=allowance, room=run.new.room)
    try:
        await _publish(server, cron.cron_id)
    except Unavailable:
        if made:
            raise
        async with transaction(server.pool) as conn:
            await crons.delete(conn, cron.cron_id)
            await idempotency.take_back(conn, caller.key)
        raise
    return cron


async def _asked(caller: Caller, cron: Cron) -> tuple[Cron, Filter | None]:
    """Return a cron as its caller may create it, and what must hold of those that they see."""
    value: JsonObject = {
        "cron_id": cron.cron_id,
        "assistant_id": cron.assistant_id,
        "thread_id": cron.thread_id,
        "user_id": cron.user_id,
        "schedule": cron.schedule,
        "end_time": cron.end_time,
        "payload": cron.payload,
        "metadata": cron.metadata,
    }
    visible_to = await caller.ask("crons", "create", value)
    changed = {name: value[name] for name in ("schedule", "end_time", "payload", "metadata")}
    return replace(cron, **changed), visible_to


async def _publish(server: Server, cron_id: UUID) -> None:
    settings = server.settings
    window = timedelta(seconds=settings.cron_window)
    await publish(server.pool, server.temporal, cron_id, task_queue=settings.task_queue, window=window)


def _new(caller: Caller, body: CronCreate, run: NewRun, *, thread_id: UUID | None) -> Cron:
    now = datetime.now(UTC)
    signed = {SIGNED: run.options.webhook_secret} if run.options.webhook_secret else {}
    cron = Cron(
        cron_id=caller.key.named("cron") if caller.key else uuid7(),
        assistant_id=run.assistant.assistant_id,
        thread_id=thread_id,
        user_id=caller.user_id,
        configurable={**lasting(), **caller.configurable, **signed},
        stamp=_stamp(body, run),
        schedule=body.schedule,
        timezone=body.timezone,
        end_time=body.end_time,
        enabled=body.enabled,
        on_run_completed=None if thread_id else body.on_run_completed,
        payload={},
        metadata=dict(body.metadata),
        next_run_date=None,
        scheduled=False,
        refill_at=None,
        created_at=now,
        updated_at=now,
    )
    return replace(cron, payload=payload_of(cron, body.model_dump(exclude_unset=True)))


def _stamp(body: CronCreate, run: NewRun) -> JsonObject:
    """Return what a handler has put into the metadata of a run and its thread: all of a cron's get it."""
    own = {**(body.config.metadata or {}), **body.metadata, "graph_id": run.assistant.graph_id}
    own["assistant_id"] = str(run.assistant.assistant_id)
    return {key: value for key, value in run.thread_metadata.items() if key not in own or own[key] != value}


def _patched(cron: Cron, given: JsonObject, *, stamp: JsonObject) -> Cron:
    changes = {name: given[name] for name in OWN if name in given}
    if "on_run_completed" in given and cron.thread_id is None:
        changes["on_run_completed"] = given["on_run_completed"]
    metadata = {**cron.metadata, **cast(JsonObject, given.get("metadata") or {}), **stamp}
    return replace(cron, **changes, metadata=metadata, payload=payload_of(cron, given))


def _checked(cron: Cron, assistant: Assistant, *, terms: Terms) -> Cron:
    """Return a cron that can fire, with the time when it is going to.

    Raises:
        Error: it could not.
    """
    run_of(cron, assistant, terms=terms)
    return replace(cron, next_run_date=next_run_date(cron, datetime.now(UTC)))


async def _allowed(caller: Caller, body: CronFilter, **part: int) -> JsonObject:
    """Return the filters of a search, with those that the caller is subject to."""
    value: JsonObject = {
        "assistant_id": body.assistant_id and UUID(body.assistant_id),
        "thread_id": body.thread_id and UUID(body.thread_id),
        "enabled": body.enabled,
        "metadata": dict(body.metadata),
        **part,
    }
    visible_to = await caller.ask("crons", "search", value)
    named = {name: value.get(name) for name in ("assistant_id", "thread_id", "enabled")}
    return {**named, "metadata": value.get("metadata") or None, "only": visible_to}


def _found(cron: Cron | None, cron_id: UUID) -> Cron:
    if cron is None:
        raise NotFound(f"Cron with ID {cron_id} not found")
    return cron
