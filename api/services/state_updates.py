"""Changes to a thread's state that no run makes.

An edit is thought out first, on the graphs' loop and outside of any transaction: users' reducers may take their time. Then
one transaction locks the thread, which must be idle and as it was read, and writes it all. So an edit that fails leaves
nothing behind, none begins in the midst of a run, and of two that meet one is thought out again.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from langgraph.types import StateUpdate

from durathread.api.deps import Server
from durathread.api.services.request_headers import forwarded
from durathread.db import stored, threads
from durathread.db.drafts import Draft
from durathread.db.filters import Filter
from durathread.db.pool import Connection, connection, transaction
from durathread.db.saver import Saver
from durathread.errors import BadRequest, Error, NotFound, ThreadBusy
from durathread.graphs.failures import describe
from durathread.graphs.registry import Graph
from durathread.records import Allowance, JsonObject, Thread
from durathread.runs.request import CHECKPOINT_ADDRESS, Body, CommandBody
from durathread.steps.first_input import command_of
from durathread.steps.superstep import Position, locate

# How often an edit is thought out before it gives up on a thread that others change meanwhile.
TRIES = 10


class UpdateBody(Body):
    """What a node would have returned: values or a command."""

    values: Any = None
    command: CommandBody | None = None
    as_node: str | None = None


@dataclass(frozen=True)
class Edit:
    """What an edit writes: checkpoints, where the last of them is, and where the thread then stands."""

    draft: Draft
    address: JsonObject
    position: Position

    async def write(self, conn: Connection, thread_id: UUID) -> Thread | None:
        """Write the edit, and show it in the thread's row. The caller's transaction holds the idle thread."""
        await self.draft.write(conn)
        return await show(conn, thread_id, self.position)


def graph_of(thread: Thread) -> str | None:
    """Return the graph that a thread's checkpoints are read with, if it is known."""
    graph_id = thread.metadata.get("graph_id")
    return graph_id if isinstance(graph_id, str) and graph_id else None


def config_of(thread: Thread, address: JsonObject) -> RunnableConfig:
    """Build the config that a graph is opened, read and edited with."""
    configurable: JsonObject = thread.config.get("configurable") or {}
    ids = {"thread_id": str(thread.thread_id), "graph_id": graph_of(thread)}
    own = {key: value for key, value in configurable.items() if key not in (*CHECKPOINT_ADDRESS, "run_id")}
    return cast(RunnableConfig, {"configurable": {**own, **forwarded(), **ids, **address}, "metadata": ids})


async def edit(
    server: Server,
    thread_id: UUID,
    update: UpdateBody,
    *,
    address: JsonObject,
    visible_to: Filter | None,
    room: Allowance,
) -> JsonObject:
    """Write a checkpoint on a thread that the filter lets through, and return its address.

    Args:
        server: for its graphs.
        thread_id: the thread.
        update: what the checkpoint is made of.
        address: of the checkpoint to begin at; the latest if it is empty.
        only: lets the thread through.
        room: of whoever writes; it is the thread's holder that must have it.

    Raises:
        TooMany: there is no room for it.
        NotFound: there is no such thread, graph or checkpoint.
        ThreadBusy: a run of the thread is in flight, or others change it all the time.
        BadRequest: the thread has no graph, or the graph refuses the update.
        TimedOut: the graph takes too long.
    """
    async with server.editing(thread_id):
        for _ in range(TRIES):
            async with connection(server.pool) as conn:
                # Before the thread: what changes in between shows as a change.
                version = await threads.version(conn, thread_id)
                thread = await threads.find_idle(conn, thread_id, visible_to=visible_to)
            drafted = await draft(server, thread, [[update]], address=address)
            async with transaction(server.pool) as conn:
                await threads.lock_idle(conn, thread_id, visible_to=visible_to)
                if await threads.version(conn, thread_id) != version:
                    continue
                async with stored.room(conn, await stored.of_thread(conn, thread_id, room)):
                    await drafted.write(conn, thread_id)
                return drafted.address
    raise ThreadBusy("The thread is changed by others all the time.")


async def draft(
    server: Server, thread: Thread, supersteps: Sequence[Sequence[UpdateBody]], *, address: JsonObject | None = None
) -> Edit:
    """Think out checkpoints, and write none.

    Args:
        server: for its graphs.
        thread: the thread.
        supersteps: the updates that each checkpoint is made of.
        address: of the checkpoint to begin at; the latest by default.

    Raises:
        BadRequest: the thread has no graph, or the graph refuses an update.
        NotFound: there is no such graph or checkpoint.
        TimedOut: the graph takes too long.
    """
    saver = Draft(Saver(server.pool))
    config = config_of(thread, address or {})
    graph_id = _required_graph(thread)
    opening = config_of(thread, {})

    async def think() -> Edit:
        async with server.graphs.open(
            graph_id, config=opening, checkpointer=saver, store=server.store, why="threads.update"
        ) as graph:
            with _refusals():
                if address and "checkpoint_id" in address:
                    await _require_checkpoint(saver, thread, address)
                steps = [[_update(update) for update in updates] for updates in supersteps]
                written = await graph.abulk_update_state(config, steps)
                return Edit(saver, dict(written.get("configurable") or {}), await _position(graph, thread))

    return await server.apart(think)


async def position_of(server: Server, thread: Thread) -> Position:
    """Read where a thread stands at its latest checkpoint.

    Raises:
        TimedOut: the graph takes too long.
    """
    saver = Saver(server.pool)
    config = config_of(thread, {})
    graph_id = _required_graph(thread)

    async def look() -> Position:
        async with server.graphs.open(
            graph_id, config=config, checkpointer=saver, store=server.store, why="threads.read"
        ) as graph:
            return await _position(graph, thread)

    return await server.apart(look)


async def show(conn: Connection, thread_id: UUID, position: Position) -> Thread | None:
    """Show in a thread's row where it stands."""
    return await threads.put_state(
        conn, thread_id, resting=position.resting, values=position.state, interrupts=position.interrupts or {}
    )


def _required_graph(thread: Thread) -> str:
    graph_id = graph_of(thread)
    if graph_id is None:
        raise BadRequest("The thread has no graph yet: run one on it, or name one as metadata.graph_id.")
    return graph_id


async def _position(graph: Graph, thread: Thread) -> Position:
    return await locate(graph, str(thread.thread_id))


@contextmanager
def _refusals() -> Generator[None]:
    """Answer for what LangGraph, and the user's code that it calls, raise: it is about the request."""
    try:
        yield
    except Error:
        raise
    except Exception as error:
        described = describe(error)
        raise BadRequest(described["message"] or described["error"]) from error


async def _require_checkpoint(saver: Draft, thread: Thread, address: JsonObject) -> None:
    named = {"thread_id": str(thread.thread_id), "checkpoint_ns": "", **address}
    if await saver.aget_tuple({"configurable": named}) is None:
        raise NotFound(f"Checkpoint {address['checkpoint_id']} not found")


def _update(update: UpdateBody) -> StateUpdate:
    values: Any = command_of(update.command.model_dump(exclude_none=True)) if update.command else update.values
    return StateUpdate(values, update.as_node, None)
