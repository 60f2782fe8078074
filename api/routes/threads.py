"""Threads: `client.threads`, their states aside."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from fastapi import Header, Query, Request
from pydantic import AfterValidator, Field
from starlette.responses import Response
from uuid_utils.compat import uuid7

from durathread import encryption
from durathread.api.auth.authorization import Caller, CallerDep, require_own, stamped
from durathread.api.deps import Server, ServerDep, ThreadId, listed, whole_thread
from durathread.api.http.error_answers import problems
from durathread.api.http.json_answers import Json, selected, thread_json
from durathread.api.openapi.described import IDEMPOTENCY_KEY, parameters
from durathread.api.openapi.schemas import Pruned, ThreadModel, selection_of
from durathread.api.services.allowances import room_of
from durathread.api.services.repeated_requests import KeyedRoutes
from durathread.api.services.searching import MOST, Page, SortOrder, Text, page
from durathread.api.services.state_updates import Edit, UpdateBody, draft, position_of, show
from durathread.api.services.thread_deletion import remove
from durathread.config.lifetimes import LONGEST
from durathread.db import expiry, idempotency, saver, stored, threads
from durathread.db.filters import Filter
from durathread.db.idempotency import Key
from durathread.db.pool import Connection, connection, transaction
from durathread.db.pruning import keep_latest
from durathread.errors import BadRequest, Conflict, Gone, Invalid, NotFound, ThreadBusy
from durathread.records import Allowance, JsonObject, Lifetime, LifetimeStrategy, Thread, ThreadStatus
from durathread.runs.request import Body, UuidText
from durathread.streams.thread_markers import mark_state

router = KeyedRoutes(prefix="/threads", tags=["Threads"])

Shown = Literal[
    "thread_id",
    "created_at",
    "updated_at",
    "state_updated_at",
    "metadata",
    "config",
    "status",
    "values",
    "interrupts",
    "error",
]
ALIAS = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PATH = re.compile(r"(values|metadata|config|interrupts)(\.[^.\[\]]+|\[-?\d{1,9}\])*")
PART = re.compile(r"([^.\[\]]+)|\[(-?\d+)\]")
MOST_EXTRACTS = 10
TTL = "How long the thread lives that nobody touches: minutes, or with a strategy."

Minutes = Annotated[float, Field(gt=0, le=LONGEST, strict=True, allow_inf_nan=False, description="In minutes.")]


def _extracts(asked: dict[str, str]) -> dict[str, str]:
    if len(asked) > MOST_EXTRACTS:
        raise ValueError(f"at most {MOST_EXTRACTS} entries")
    for alias, path in asked.items():
        if not ALIAS.fullmatch(alias):
            raise ValueError(f"'{alias}' is not a name")
        if not PATH.fullmatch(path):
            raise ValueError(f"'{path}' is not a path such as values.messages[-1].content")
    return asked


class TtlBody(Body):
    """How long a thread lives that nobody touches, and what becomes of it then."""

    strategy: LifetimeStrategy = "delete"
    ttl: Minutes


class Superstep(Body):
    """Updates that belong to one superstep."""

    updates: list[UpdateBody] = Field(min_length=1)


class ThreadCreate(Body):
    """A new thread."""

    thread_id: UuidText | None = None
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])
    if_exists: Literal["raise", "do_nothing"] = "raise"
    supersteps: list[Superstep] | None = Field(None, description="A history to begin with; needs `metadata.graph_id`.")
    ttl: TtlBody | Minutes | None = Field(None, description=f"{TTL} By default that of the server's configuration.")


class ThreadPatch(Body):
    """What to merge into a thread."""

    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])
    ttl: TtlBody | Minutes | None = Field(None, description=f"{TTL} Null lets it live.")


class ThreadFilter(Body):
    """Which threads to find: by metadata and values that they contain, by status."""

    metadata: dict[str, Any] | None = None
    values: dict[str, Any] | None = None
    status: ThreadStatus | None = None
    ids: list[UuidText] | None = None


class ThreadSearch(ThreadFilter, Page):
    """Which threads to find, and how to show them."""

    sort_by: threads.SortBy = "updated_at"
    sort_order: SortOrder = "desc"
    select: list[Shown] | None = None
    extract: Annotated[dict[Text, Text], AfterValidator(_extracts)] | None = Field(
        None, description="Paths such as `values.messages[-1].content`, by the name to show what is there under."
    )


class Prune(Body):
    """Which threads to delete, or to reduce to their latest checkpoints."""

    thread_ids: list[UuidText] = Field(max_length=MOST)
    strategy: Literal["delete", "keep_latest"] = "delete"


@router.post(
    "",
    response_model=ThreadModel,
    responses=problems(400, 403, 404, 409, 429, 504),
    openapi_extra=parameters(IDEMPOTENCY_KEY),
)
async def create(body: ThreadCreate, server: ServerDep, caller: CallerDep) -> Response:
    """Create a thread."""
    # A node whose step is repeated gets the thread that it got before.
    again = caller.call is not None and body.thread_id is None
    minted = caller.names.named("thread") if caller.names else uuid7()
    thread_id = UUID(body.thread_id) if body.thread_id else minted
    if_exists = "do_nothing" if again else body.if_exists
    value: JsonObject = {"thread_id": thread_id, "metadata": body.metadata, "if_exists": if_exists}
    if asked := _lifetime(body.ttl):
        value["ttl"] = {"strategy": asked.strategy, "ttl": asked.minutes}
    visible_to = await caller.ask("threads", "create", value)
    lifetime = _lifetime(ThreadCreate.model_validate({"ttl": value.get("ttl")}).ttl) or server.terms.expiry.default
    metadata: JsonObject = value.get("metadata") or {}
    room = await room_of(server, caller, creates=False)
    while True:
        drafted = await _history(server, thread_id, body.supersteps, metadata=metadata) if body.supersteps else None
        # A row by itself needs no transaction, of which each end is another way to the database.
        alone = not body.supersteps and lifetime is None and room.most is None and caller.key is None
        async with (connection if alone else transaction)(server.pool) as conn:
            if await idempotency.begin(conn, caller.key):
                return Json(thread_json(_made(await threads.get(conn, thread_id, visible_to=visible_to))))
            # There was one when its history should have been thought out: a new one now would have none.
            exists = bool(body.supersteps) and drafted is None
            owned = stamped(metadata, visible_to)
            created = None if exists else await threads.insert(conn, thread_id, metadata=owned, holder=room.holder)
            is_new = created is not None
            if is_new and lifetime:
                await expiry.grant(conn, thread_id, lifetime)
            if is_new and drafted:
                await drafted.write(conn, thread_id)
            if is_new:
                await stored.require(conn, room)
            if (is_new and not alone) or (created is None and value.get("if_exists") == "do_nothing"):
                created = await threads.get(conn, thread_id, visible_to=None if is_new else visible_to)
            if created is None:
                await idempotency.refrain(conn, caller.key)
            gone = exists and created is None and await threads.find(conn, thread_id, hidden=True) is None
        if not gone:
            break
    if created is None:
        raise Conflict(f"Thread with ID {thread_id} already exists")
    if is_new and drafted:
        mark_state(server.publisher, thread_id, drafted.address["checkpoint_id"])
    return Json(thread_json(created))


@router.post("/search", response_model=list[selection_of(ThreadModel)])
async def search(body: ThreadSearch, server: ServerDep, caller: CallerDep) -> Response:
    """Find threads."""
    wanted = await _allowed(caller, body, limit=body.limit, offset=body.offset)
    async with connection(server.pool) as conn:
        total = await threads.count(conn, wanted, at_most=body.reach)
        found = await threads.search(
            conn,
            wanted,
            limit=body.limit,
            offset=body.offset,
            sort_by=body.sort_by,
            descending=body.sort_order == "desc",
            with_values=_needs_values(body),
        )
    return page([_shown(thread, body) for thread in found], asked=body, total=total)


@router.post("/count", response_model=int)
async def count(body: ThreadFilter, server: ServerDep, caller: CallerDep) -> Response:
    """Count threads."""
    wanted = await _allowed(caller, body)
    async with connection(server.pool) as conn:
        return Json(await threads.count(conn, wanted))


@router.post("/prune", response_model=Pruned, responses=problems(400))
async def prune(body: Prune, server: ServerDep, caller: CallerDep) -> Response:
    """Delete threads, or all but their latest checkpoints. Unknown threads are skipped, as are busy ones with `keep_latest`."""
    allowed = {thread_id: await caller.may_delete(thread_id) for thread_id in map(UUID, body.thread_ids)}
    act = remove if body.strategy == "delete" else _keep_latest
    pruned = [await act(server, thread_id, visible_to=visible_to) for thread_id, visible_to in allowed.items()]
    return Json({"pruned_count": sum(pruned)})


@router.get("/{thread_id}", response_model=ThreadModel, responses=problems(404))
async def get(
    thread_id: ThreadId,
    request: Request,
    server: ServerDep,
    caller: CallerDep,
    include: Annotated[str | None, Query(description="`ttl`, to have the thread's lifetime shown.")] = None,
) -> Response:
    """Get a thread."""
    shown = thread_json(await whole_thread(server, thread_id, visible_to=await caller.may_read(thread_id)))
    wanted = listed(request, "include") if include else []
    if unknown := [name for name in wanted if name != "ttl"]:
        raise Invalid(f"include: unknown field {', '.join(unknown)}")
    if wanted:
        async with connection(server.pool) as conn:
            lifetime = await expiry.get(conn, thread_id)
        shown |= {"ttl": lifetime} if lifetime else {}
    return Json(shown)


@router.patch("/{thread_id}/state", response_model=ThreadModel, responses=problems(404, 429), include_in_schema=False)
@router.patch("/{thread_id}", response_model=ThreadModel, responses=problems(404, 429))
async def patch(
    thread_id: ThreadId,
    body: ThreadPatch,
    server: ServerDep,
    caller: CallerDep,
    prefer: Annotated[str, Header()] = "",
) -> Response:
    """Merge metadata into a thread's, key by key. `Prefer: return=minimal` asks for no answer but 204."""
    value: JsonObject = {"thread_id": thread_id, "metadata": body.metadata}
    visible_to = await caller.ask("threads", "update", value)
    room = await room_of(server, caller, creates=False)
    async with transaction(server.pool) as conn:
        async with stored.room(conn, await stored.of_thread(conn, thread_id, room, visible_to=visible_to)):
            patched = await threads.patch(conn, thread_id, metadata=value.get("metadata") or {}, visible_to=visible_to)
        if patched is not None and "ttl" in body.model_fields_set:
            await expiry.grant(conn, thread_id, _lifetime(body.ttl))
        if patched is not None:
            require_own(patched.metadata, visible_to)
    if patched is None:
        raise NotFound(f"Thread with ID {thread_id} not found")
    if "return=minimal" in prefer.replace(" ", "").lower():
        return Response(status_code=204)
    return Json(thread_json(patched))


@router.delete("/{thread_id}", status_code=204, responses=problems(404))
async def delete(thread_id: ThreadId, server: ServerDep, caller: CallerDep) -> Response:
    """Delete a thread with its runs and checkpoints. What runs is stopped."""
    if not await remove(server, thread_id, visible_to=await caller.may_delete(thread_id)):
        raise NotFound(f"Thread with ID {thread_id} not found")
    return Response(status_code=204)


@router.post(
    "/{thread_id}/copy",
    response_model=ThreadModel,
    responses=problems(400, 404, 409, 429, 504),
    openapi_extra=parameters(IDEMPOTENCY_KEY),
)
async def copy(thread_id: ThreadId, server: ServerDep, caller: CallerDep) -> Response:
    """Copy a thread with its checkpoints and pending interrupts, but not its runs."""
    copy_id = caller.key.named("copy") if caller.key else uuid4()
    visible_to = await caller.may_read(thread_id)
    metadata = await _copied_metadata(server, caller, thread_id, copy_id, visible_to=visible_to)
    room = await room_of(server, caller)
    async with transaction(server.pool) as conn:
        if await idempotency.begin(conn, caller.key):
            copied = _made(await threads.get(conn, copy_id, hidden=True))
        else:
            copied = await _copied(conn, thread_id, copy_id, metadata=metadata, visible_to=visible_to, room=room)
    return Json(thread_json(await _revealed(server, copied, key=caller.key) if copied.hidden else copied))


async def _copied(
    conn: Connection,
    thread_id: UUID,
    copy_id: UUID,
    *,
    metadata: JsonObject | None,
    visible_to: Filter | None,
    room: Allowance,
) -> Thread:
    source = await threads.lock(conn, thread_id, visible_to=visible_to)
    # While the source is busy its row says what its last run left; its checkpoints have gone on.
    moves = source is not None and source.status == "busy"
    copied = source and await threads.copy(
        conn, thread_id, copy_id, metadata=metadata, hidden=moves, holder=room.holder
    )
    if copied is None:
        # Not 404: clients know a failed copy as a conflict.
        raise Conflict("Conflict")
    await saver.copy_thread(conn, str(thread_id), str(copy_id))
    await stored.require(conn, room)
    return copied


def _made(found: Thread | None) -> Thread:
    """Return the thread that the same request has made before.

    Raises:
        Gone: it has been deleted since.
    """
    if found is None:
        raise Gone("The thread that this Idempotency-Key has made is gone.")
    return found


def _lifetime(ttl: TtlBody | float | None) -> Lifetime | None:
    if isinstance(ttl, TtlBody):
        return Lifetime(ttl.ttl, ttl.strategy)
    return None if ttl is None else Lifetime(ttl)


async def _copied_metadata(
    server: Server, caller: Caller, thread_id: UUID, copy_id: UUID, *, visible_to: Filter | None
) -> JsonObject | None:
    """Ask whether the copy may be created, and return the metadata that it gets; None for those of its source."""
    if caller.user is None:
        return None
    async with connection(server.pool) as conn:
        source = await threads.find(conn, thread_id, visible_to=visible_to)
    value: JsonObject = {"thread_id": copy_id, "metadata": source.metadata if source else {}, "if_exists": "raise"}
    mine = await caller.ask("threads", "create", value)
    # Whoever copies what is shared has a copy of their own.
    return stamped({**(value.get("metadata") or {}), **(mine.sole if mine else {})}, mine)


async def _history(
    server: Server, thread_id: UUID, supersteps: Sequence[Superstep], *, metadata: JsonObject
) -> Edit | None:
    """Think out the history that a new thread begins with; none if there is a thread of that id."""
    async with connection(server.pool) as conn:
        if await threads.find(conn, thread_id, hidden=True):
            return None
    now = datetime.now(UTC)
    imagined = Thread(
        thread_id=thread_id,
        status="idle",
        resting="idle",
        metadata=metadata,
        config={},
        values=None,
        interrupts=None,
        error=None,
        ended_started_at=None,
        ended_run_id=None,
        temporary=False,
        hidden=False,
        created_at=now,
        updated_at=now,
        state_updated_at=now,
    )
    return await draft(server, imagined, [step.updates for step in supersteps])


async def _revealed(server: Server, copied: Thread, *, key: Key | None) -> Thread:
    """Let a new copy be seen, with its row as its checkpoints stand; without that, there is no copy."""
    try:
        position = await position_of(server, copied)
        async with transaction(server.pool) as conn:
            await threads.reveal(conn, copied.thread_id)
            shown = await show(conn, copied.thread_id, position)
    except BaseException:
        await remove(server, copied.thread_id, visible_to=None, hidden=True)
        async with connection(server.pool) as conn:
            await idempotency.take_back(conn, key)
        raise
    if shown is None:
        raise Conflict("Conflict")
    return shown


async def _keep_latest(server: Server, thread_id: UUID, *, visible_to: Filter | None) -> bool:
    async def lock(conn: Connection) -> bool:
        try:
            await threads.lock_idle(conn, thread_id, visible_to=visible_to)
        except (NotFound, ThreadBusy):
            return False
        return True

    try:
        return await keep_latest(server.pool, thread_id, lock=lock)
    except NotImplementedError as error:
        raise BadRequest(f"Thread {thread_id} cannot be reduced to its latest checkpoint: {error}") from error


async def _allowed(caller: Caller, body: ThreadFilter, **part: int) -> JsonObject:
    """Return the filters of a search, with those that the caller is subject to."""
    ids = None if body.ids is None else [UUID(thread_id) for thread_id in body.ids]
    value: JsonObject = {
        "metadata": body.metadata or {},
        "values": body.values or {},
        "status": body.status,
        "ids": ids,
        **part,
    }
    visible_to = await caller.ask("threads", "search", value)
    metadata, values = value.get("metadata") or None, value.get("values") or None
    if values and encryption.is_on():
        raise Invalid("Threads cannot be searched by their values: those are encrypted. Search by metadata.")
    return {
        "metadata": metadata,
        "values": values,
        "status": value.get("status"),
        "ids": value.get("ids"),
        "only": visible_to,
    }


def _needs_values(body: ThreadSearch) -> bool:
    extracted = any(path.startswith("values") for path in (body.extract or {}).values())
    return not body.select or "values" in body.select or extracted


def _shown(thread: Thread, body: ThreadSearch) -> JsonObject:
    whole = thread_json(thread)
    shown = selected(whole, body.select)
    if not body.extract:
        return shown
    return {**shown, "extracted": {alias: _at(whole, path) for alias, path in body.extract.items()}}


def _at(shown: Any, path: str) -> Any:
    """Return what is at a path, or None."""
    for name, index in PART.findall(path):
        if isinstance(shown, dict):
            shown = shown.get(name) if name else None
        elif isinstance(shown, list) and index and -len(shown) <= int(index) < len(shown):
            shown = shown[int(index)]
        else:
            return None
    return shown
