"""Changes to a thread's state that no run makes.

An edit is one transaction: it locks the thread, which must be idle, and LangGraph reads and writes the checkpoints on the
transaction's own connection. So an edit that fails leaves nothing behind, and no run begins in its midst.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.types import StateUpdate

from durathread.activities.failures import describe
from durathread.activities.opening import command_of
from durathread.activities.superstep import locate
from durathread.api.deps import Server
from durathread.api.headers import forwarded
from durathread.errors import BadRequest, Error, NotFound
from durathread.graphs import Graph
from durathread.preparation import ADDRESS, Body, CommandBody
from durathread.records import JsonObject, Thread
from durathread.store import threads
from durathread.store.pool import Connection


class UpdateBody(Body):
    """What a node would have returned: values or a command."""

    values: Any = None
    command: CommandBody | None = None
    as_node: str | None = None


def graph_of(thread: Thread) -> str | None:
    """Return the graph that a thread's checkpoints are read with, if it is known."""
    graph_id = thread.metadata.get("graph_id")
    return graph_id if isinstance(graph_id, str) and graph_id else None


def config_of(thread: Thread, address: JsonObject) -> RunnableConfig:
    """Build the config that a graph is opened, read and edited with."""
    configurable: JsonObject = thread.config.get("configurable") or {}
    ids = {"thread_id": str(thread.thread_id), "graph_id": graph_of(thread)}
    own = {key: value for key, value in configurable.items() if key not in (*ADDRESS, "run_id")}
    return cast(RunnableConfig, {"configurable": {**own, **forwarded(), **ids, **address}, "metadata": ids})


async def apply(
    server: Server,
    conn: Connection,
    thread: Thread,
    supersteps: Sequence[Sequence[UpdateBody]],
    *,
    address: JsonObject | None = None,
) -> JsonObject:
    """Write checkpoints, and bring the thread's row up to date; return the address of the last.

    Args:
        server: for its graphs.
        conn: on which a transaction has locked the idle thread.
        thread: the thread.
        supersteps: the updates that each checkpoint is made of.
        address: of the checkpoint to begin at; the latest by default.

    Raises:
        BadRequest: the thread has no graph, or the graph refuses an update.
        NotFound: there is no such graph or checkpoint.
    """
    async with _opened(server, conn, thread) as graph, _refusals():
        if address and "checkpoint_id" in address:
            await _require_checkpoint(conn, thread, address)
        steps = [[_update(update) for update in updates] for updates in supersteps]
        written = await graph.abulk_update_state(config_of(thread, address or {}), steps)
        await _show(conn, thread, graph)
    return dict(written.get("configurable") or {})


async def refresh(server: Server, conn: Connection, thread: Thread) -> Thread:
    """Bring a thread's row up to date with its latest checkpoint."""
    async with _opened(server, conn, thread) as graph:
        return await _show(conn, thread, graph) or thread


@asynccontextmanager
async def _opened(server: Server, conn: Connection, thread: Thread) -> AsyncGenerator[Graph]:
    graph_id = graph_of(thread)
    if graph_id is None:
        raise BadRequest("The thread has no graph yet: run one on it, or name one as metadata.graph_id.")
    saver = AsyncPostgresSaver(cast(Any, conn))
    async with server.graphs.open(
        graph_id, config=config_of(thread, {}), checkpointer=saver, store=server.store, why="threads.update"
    ) as graph:
        yield graph


@asynccontextmanager
async def _refusals() -> AsyncGenerator[None]:
    """Answer for what LangGraph, and the user's code that it calls, raise: it is about the request."""
    try:
        yield
    except (Error, psycopg.Error):
        raise
    except Exception as error:
        described = describe(error)
        raise BadRequest(described["message"] or described["error"]) from error


async def _require_checkpoint(conn: Connection, thread: Thread, address: JsonObject) -> None:
    named = {"thread_id": str(thread.thread_id), "checkpoint_ns": "", **address}
    if await AsyncPostgresSaver(cast(Any, conn)).aget_tuple({"configurable": named}) is None:
        raise NotFound(f"Checkpoint {address['checkpoint_id']} not found")


async def _show(conn: Connection, thread: Thread, graph: Graph) -> Thread | None:
    position = await locate(graph, str(thread.thread_id))
    return await threads.put_state(
        conn,
        thread.thread_id,
        resting=position.resting,
        values=position.values,
        interrupts=position.interrupts,
    )


def _update(update: UpdateBody) -> StateUpdate:
    values: Any = command_of(update.command.model_dump(exclude_none=True)) if update.command else update.values
    return StateUpdate(values, update.as_node, None)
