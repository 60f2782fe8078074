"""Where a run stood at one of its checkpoints, read with its graph."""

from typing import cast
from uuid import UUID

from langchain_core.runnables import RunnableConfig

from durathread.activities.resources import Resources
from durathread.activities.standing import standing_left
from durathread.activities.superstep import Position, locate, position_of
from durathread.graph_config import ADDRESS
from durathread.records import JsonObject
from durathread.store.left_writes import left_writes
from durathread.store.pool import connection
from durathread.store.saver import Saver


async def position_at(
    resources: Resources, graph_id: str, thread_id: UUID, *, checkpoint_id: str, kwargs: JsonObject
) -> Position:
    """Read a thread as a run that was asked for so has left it, at its latest checkpoint."""
    saver = Saver(resources.pool)
    config = reading_config(graph_id, thread_id, kwargs)

    async def read() -> Position:
        async with resources.graphs.open(
            graph_id, config=config, checkpointer=saver, store=resources.store, why="threads.read"
        ) as graph:
            return await locate(graph, str(thread_id), checkpoint_id=checkpoint_id)

    return await resources.loops.run(read, graph_id=graph_id)


async def position_left(
    resources: Resources, graph_id: str, run_id: UUID, *, thread_id: UUID, checkpoint_id: str, kwargs: JsonObject
) -> Position:
    """Read a thread as a run has left it at a checkpoint, whatever later runs have written onto that."""
    saver = Saver(resources.pool)
    config = reading_config(graph_id, thread_id, kwargs)
    async with connection(resources.pool) as conn:
        writes = await left_writes(conn, run_id, thread_id=thread_id, checkpoint_id=checkpoint_id)

    async def read() -> Position:
        async with resources.graphs.open(
            graph_id, config=config, checkpointer=saver, store=resources.store, why="threads.read"
        ) as graph:
            here: RunnableConfig = {"configurable": {"thread_id": str(thread_id)}}
            return position_of(await standing_left(graph, here, checkpoint_id, writes=writes))

    return await resources.loops.run(read, graph_id=graph_id)


def reading_config(graph_id: str, thread_id: UUID, kwargs: JsonObject) -> RunnableConfig:
    """Build the config that a graph is opened with to read what a run left: a factory makes what it made for the run."""
    asked: JsonObject = kwargs.get("config") or {}
    own = {key: value for key, value in (asked.get("configurable") or {}).items() if key not in ADDRESS}
    ids = {"thread_id": str(thread_id), "graph_id": graph_id}
    return cast(RunnableConfig, {**asked, "configurable": {**own, **ids}})
