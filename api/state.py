"""The states of threads: `client.threads.get_state`, `update_state` and `get_history`."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import Query, Request
from langchain_core.runnables import RunnableConfig
from langgraph.constants import START
from langgraph.types import StateSnapshot
from pydantic import AfterValidator, Field
from starlette.responses import Response

from durathread.activities.standing import past, standing
from durathread.api.authorization import Caller, CallerDep
from durathread.api.bodies import Routes
from durathread.api.deps import Server, ServerDep, ThreadId, existing_thread, listed
from durathread.api.described import SELECT, parameters
from durathread.api.editing import UpdateBody, config_of, edit, graph_of
from durathread.api.errors import problems
from durathread.api.json import Encoded, Json
from durathread.api.schemas import StateUpdated, ThreadStateModel, selection_of
from durathread.api.searching import MOST, Text, integer
from durathread.api.snapshots import FIELDS, address_json, state_json
from durathread.encode import dumps
from durathread.errors import BadRequest, Invalid
from durathread.graphs import Graph
from durathread.preparation import ADDRESS, UUID_FORM, Body, CheckpointBody, UuidText
from durathread.records import JsonObject, Thread
from durathread.store import threads
from durathread.store.pool import connection
from durathread.store.saver import Saver
from durathread.streams.marks import mark_state

router = Routes(prefix="/threads/{thread_id}", tags=["Threads"])

T = TypeVar("T")

TRUE = ("true", "yes", "1")


def _selectable(select: Sequence[str]) -> list[str]:
    if unknown := [name for name in select if name not in FIELDS and not name.startswith("values.")]:
        raise ValueError(f"unknown field {', '.join(unknown)}")
    return list(select)


Select = Annotated[list[str], AfterValidator(_selectable)]


class AnyCheckpoint(Body):
    """The address of a checkpoint that may not exist; the latest of its namespace without an id."""

    checkpoint_ns: Text | None = None
    checkpoint_id: str | None = None
    checkpoint_map: dict[str, Any] | None = None


class Before(AnyCheckpoint):
    """A checkpoint, also as LangChain's config says it."""

    configurable: AnyCheckpoint | None = None


class StateRead(Body):
    """Which state to read."""

    checkpoint: AnyCheckpoint = Field(default_factory=AnyCheckpoint)
    subgraphs: bool = False
    select: Select | None = Field(default=None, description="Fields, or `values.<key>`.")


class StateUpdateBody(UpdateBody):
    """What to write, and from which checkpoint on."""

    checkpoint: CheckpointBody | None = None
    checkpoint_id: UuidText | None = None


class HistoryRead(Body):
    """Which states to read, newest first."""

    limit: int = Field(default=1, ge=1, le=MOST)
    before: str | Before | None = None
    metadata: dict[str, Any] | None = Field(default=None, description="What the checkpoints' metadata contain.")
    checkpoint: AnyCheckpoint | None = Field(default=None, description="A namespace, or one checkpoint.")
    select: Select | None = Field(default=None, description="Fields, or `values.<key>`.")


@router.get(
    "/state",
    response_model=selection_of(ThreadStateModel),
    responses=problems(400, 404, 504),
    openapi_extra=parameters(SELECT),
)
async def get_latest(
    thread_id: ThreadId, request: Request, server: ServerDep, caller: CallerDep, subgraphs: str = "false"
) -> Response:
    """Get the state of a thread at its latest checkpoint."""
    select = _select_of(request)
    return await _read(server, caller, thread_id, {}, subgraphs=subgraphs.lower() in TRUE, select=select)


@router.get(
    "/state/{checkpoint_id}",
    response_model=selection_of(ThreadStateModel),
    responses=problems(400, 404, 504),
    openapi_extra=parameters(SELECT),
)
async def get_at(
    thread_id: ThreadId,
    checkpoint_id: str,
    request: Request,
    server: ServerDep,
    caller: CallerDep,
    subgraphs: str = "false",
) -> Response:
    """Get the state of a thread at a checkpoint; an empty one if there is no such checkpoint."""
    select = _select_of(request)
    address = {"checkpoint_id": checkpoint_id}
    return await _read(server, caller, thread_id, address, subgraphs=subgraphs.lower() in TRUE, select=select)


@router.post("/state/checkpoint", response_model=selection_of(ThreadStateModel), responses=problems(400, 404, 504))
async def post_checkpoint(thread_id: ThreadId, body: StateRead, server: ServerDep, caller: CallerDep) -> Response:
    """Get the state of a thread, or of a subgraph of it, at a checkpoint or the latest."""
    address = _address(body.checkpoint)
    return await _read(server, caller, thread_id, address, subgraphs=body.subgraphs, select=body.select, echo=True)


@router.post("/state", response_model=StateUpdated, responses=problems(400, 404, 409, 504))
async def update(thread_id: ThreadId, body: StateUpdateBody, server: ServerDep, caller: CallerDep) -> Response:
    """Write a checkpoint, as if a node had returned values. Refused while a run is in flight."""
    address = _address(body.checkpoint) if body.checkpoint else {}
    if body.checkpoint_id:
        address = {**address, "checkpoint_id": body.checkpoint_id}
    only = await caller.ask("threads", "update", {"thread_id": thread_id})
    written = await edit(server, thread_id, body, address=address, only=only)
    checkpoint = address_json({"configurable": written})
    mark_state(server.publisher, thread_id, checkpoint["checkpoint_id"])
    return Json({"checkpoint": checkpoint, "configurable": checkpoint, "checkpoint_id": checkpoint["checkpoint_id"]})


@router.post("/history", response_model=list[selection_of(ThreadStateModel)], responses=problems(400, 404, 504))
async def post_history(thread_id: ThreadId, body: HistoryRead, server: ServerDep, caller: CallerDep) -> Response:
    """List the states of a thread, newest first."""
    return await _history(server, caller, thread_id, body)


@router.get("/history", response_model=list[selection_of(ThreadStateModel)], responses=problems(400, 404, 504))
async def get_history(
    thread_id: ThreadId,
    server: ServerDep,
    caller: CallerDep,
    limit: Annotated[str, Query(description="1 to 1000.")] = "10",
    before: Annotated[str | None, Query(description="The id of a checkpoint.")] = None,
) -> Response:
    """List the states of a thread, newest first."""
    body = HistoryRead(limit=integer(limit, "limit", least=1, most=MOST), before=before or None)
    return await _history(server, caller, thread_id, body)


async def _read(
    server: Server,
    caller: Caller,
    thread_id: UUID,
    address: JsonObject,
    *,
    subgraphs: bool,
    select: Sequence[str] | None,
    echo: bool = False,
) -> Response:
    thread = await existing_thread(server, thread_id, only=await caller.may_read(thread_id))

    def rendered(state: JsonObject) -> bytes:
        return dumps(_picked(state, select))

    return Encoded(await read(server, thread, address, subgraphs=subgraphs, echo=echo, form=rendered))


async def read(
    server: Server,
    thread: Thread,
    address: JsonObject,
    *,
    form: Callable[[JsonObject], T],
    subgraphs: bool = False,
    echo: bool = False,
) -> T:
    """Read the state of a thread at a checkpoint, or at the latest, as clients see it.

    `form` makes of it what is returned. It is called where users' code may run: values show themselves as their classes say.

    Raises:
        BadRequest: the graph cannot read it.
        TimedOut: the graph takes too long.
    """
    latest = not address.get("checkpoint_id") and not address.get("checkpoint_ns")
    begins = False
    while True:
        seen: list[bool] = []

        def shown(state: JsonObject, *, begins: bool = begins, seen: list[bool] = seen) -> T:
            seen.append(not state["next"])
            # Clients take a thread with nothing next for one at rest, and do not follow its run.
            return form({**state, "next": [START]} if begins and not state["next"] else state)

        result = await _read_at(server, thread, address, form=shown, subgraphs=subgraphs, echo=echo)
        busy = latest and seen[-1] and await _is_busy(server, thread)
        if not seen[-1] or busy == begins:
            return result
        begins = busy


async def _is_busy(server: Server, thread: Thread) -> bool:
    async with connection(server.pool) as conn:
        found = await threads.find(conn, thread.thread_id)
    return found is not None and found.status == "busy"


async def _read_at(
    server: Server,
    thread: Thread,
    address: JsonObject,
    *,
    form: Callable[[JsonObject], T],
    subgraphs: bool,
    echo: bool,
) -> T:
    graph_id = graph_of(thread)
    checkpoint_id = address.get("checkpoint_id")
    if graph_id is None or (checkpoint_id and not UUID_FORM.fullmatch(checkpoint_id)):
        return form(_nothing(thread, address, echo=echo))
    config, saver = config_of(thread, address), Saver(server.pool)

    async def look() -> T:
        async with server.graphs.open(
            graph_id, config=config, checkpointer=saver, store=server.store, why="threads.read"
        ) as graph:
            try:
                snapshot = await standing(graph, _reading(thread, address), subgraphs=subgraphs)
            except ValueError as error:
                raise BadRequest(str(error)) from error
        return form(state_json(snapshot, echo=echo))

    return await server.apart(look)


async def _history(server: Server, caller: Caller, thread_id: UUID, body: HistoryRead) -> Response:
    thread = await existing_thread(server, thread_id, only=await caller.may_read(thread_id))

    def rendered(states: list[JsonObject]) -> bytes:
        return dumps([_picked(state, body.select) for state in states])

    return Encoded(await history(server, thread, body, form=rendered))


async def history(server: Server, thread: Thread, body: HistoryRead, *, form: Callable[[list[JsonObject]], T]) -> T:
    """Read the states of a thread, newest first, as clients see them; `form` is what it is for `read`.

    Raises:
        BadRequest: the graph cannot read them.
        TimedOut: the graph takes too long.
    """
    graph_id = graph_of(thread)
    address = _address(body.checkpoint) if body.checkpoint else {}
    before = _before(body.before)
    checkpoint_id = address.get("checkpoint_id")
    if graph_id is None or (checkpoint_id and not UUID_FORM.fullmatch(checkpoint_id)):
        return form([])
    config, saver = config_of(thread, address), Saver(server.pool)
    options: JsonObject = {"filter": body.metadata or None, "before": before, "limit": body.limit}

    async def look() -> T:
        async with server.graphs.open(
            graph_id, config=config, checkpointer=saver, store=server.store, why="threads.read"
        ) as graph:
            try:
                snapshots = await _snapshots(graph, _reading(thread, address), options)
            except ValueError as error:
                raise BadRequest(str(error)) from error
        return form([state_json(snapshot) for snapshot in snapshots])

    return await server.apart(look)


async def _snapshots(graph: Graph, config: RunnableConfig, options: JsonObject) -> list[StateSnapshot]:
    snapshots = await past(graph, config, **options)
    if snapshots and _answered_in_part(snapshots[0]):
        now = await standing(graph, config)
        if address_json(now.config) == address_json(snapshots[0].config):
            snapshots[0] = now
    return snapshots


def _answered_in_part(snapshot: StateSnapshot) -> bool:
    """Whether a history shows questions, answered since: a thread that rests there is asked only what is left."""
    return any(task.interrupts and task.result is not None for task in snapshot.tasks)


def _reading(thread: Thread, address: JsonObject) -> RunnableConfig:
    return {"configurable": {"thread_id": str(thread.thread_id), **address}}


def _address(checkpoint: AnyCheckpoint | CheckpointBody) -> JsonObject:
    """Keep what is said: LangGraph takes a missing id, but not one of None, for the latest checkpoint."""
    given = checkpoint.model_dump(include=set(ADDRESS), exclude_none=True)
    return {key: value for key, value in given.items() if value}


def _before(given: str | Before | None) -> RunnableConfig | None:
    if isinstance(given, Before):
        given = given.checkpoint_id or (given.configurable and given.configurable.checkpoint_id)
    if not given:
        return None
    if not UUID_FORM.fullmatch(given):
        raise Invalid("before: must be the id of a checkpoint")
    return {"configurable": {"checkpoint_id": given}}


def _nothing(thread: Thread, address: JsonObject, *, echo: bool) -> JsonObject:
    """Show the state of a thread that no graph has run on, or at a checkpoint that cannot be."""
    asked = address_json({"configurable": {"thread_id": str(thread.thread_id), **address}})
    if echo:
        asked.setdefault("checkpoint_id", None)
    found = asked if "checkpoint_id" in asked else None
    return {
        "values": {},
        "next": [],
        "tasks": [],
        "metadata": {} if echo else None,
        "created_at": None,
        "checkpoint": found,
        "parent_checkpoint": None,
        "interrupts": [],
        "checkpoint_id": found and found["checkpoint_id"],
        "parent_checkpoint_id": None,
    }


def _select_of(request: Request) -> list[str]:
    try:
        return _selectable(listed(request, "select"))
    except ValueError as error:
        raise Invalid(f"select: {error}") from error


def _picked(state: JsonObject, select: Sequence[str] | None) -> JsonObject:
    """Keep the fields that a client asked for, and of the values perhaps only some keys."""
    if not select:
        return state
    picked: JsonObject = {name: state[name] for name in select if name in state}
    keys = [name.removeprefix("values.") for name in select if name.startswith("values.")]
    if keys and "values" not in picked:
        values = state["values"] if isinstance(state["values"], dict) else {}
        picked["values"] = {key: values[key] for key in keys if key in values}
    return picked
