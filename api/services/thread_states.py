"""The states of a thread, as clients see them: one, or its history."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.constants import START
from langgraph.types import StateSnapshot
from pydantic import AfterValidator, Field

from durathread.api.deps import Server
from durathread.api.services.searching import MOST, Text
from durathread.api.services.snapshots import FIELDS, address_json, state_json
from durathread.api.services.state_updates import config_of, graph_of
from durathread.db import threads
from durathread.db.pool import connection
from durathread.db.saver import Saver
from durathread.errors import BadRequest, Invalid
from durathread.graphs.read_state import past, standing
from durathread.graphs.registry import Graph
from durathread.records import JsonObject, Thread
from durathread.runs.request import CHECKPOINT_ADDRESS, UUID_FORM, Body, CheckpointBody

T = TypeVar("T")


def selectable(select: Sequence[str]) -> list[str]:
    if unknown := [name for name in select if name not in FIELDS and not name.startswith("values.")]:
        raise ValueError(f"unknown field {', '.join(unknown)}")
    return list(select)


Select = Annotated[list[str], AfterValidator(selectable)]


class AnyCheckpoint(Body):
    """The address of a checkpoint that may not exist; the latest of its namespace without an id."""

    checkpoint_ns: Text | None = None
    checkpoint_id: str | None = None
    checkpoint_map: dict[str, Any] | None = None


class Before(AnyCheckpoint):
    """A checkpoint, also as LangChain's config says it."""

    configurable: AnyCheckpoint | None = None


class HistoryRead(Body):
    """Which states to read, newest first."""

    limit: int = Field(default=1, ge=1, le=MOST)
    before: str | Before | None = None
    metadata: dict[str, Any] | None = Field(default=None, description="What the checkpoints' metadata contain.")
    checkpoint: AnyCheckpoint | None = Field(default=None, description="A namespace, or one checkpoint.")
    select: Select | None = Field(default=None, description="Fields, or `values.<key>`.")


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


async def history(server: Server, thread: Thread, body: HistoryRead, *, form: Callable[[list[JsonObject]], T]) -> T:
    """Read the states of a thread, newest first, as clients see them; `form` is what it is for `read`.

    Raises:
        BadRequest: the graph cannot read them.
        TimedOut: the graph takes too long.
    """
    graph_id = graph_of(thread)
    address = address_of(body.checkpoint) if body.checkpoint else {}
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


def address_of(checkpoint: AnyCheckpoint | CheckpointBody) -> JsonObject:
    """Keep what is said: LangGraph takes a missing id, but not one of None, for the latest checkpoint."""
    given = checkpoint.model_dump(include=set(CHECKPOINT_ADDRESS), exclude_none=True)
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
