"""Where a run stood at one of its checkpoints, read with its graph."""

from uuid import UUID

from langchain_core.runnables import RunnableConfig

from durathread.activities.resources import Resources
from durathread.db.left_writes import left_writes
from durathread.db.pool import connection
from durathread.db.saver import Saver
from durathread.graphs.config_keys import reading_config
from durathread.graphs.read_state import standing_left
from durathread.records import RunOptions
from durathread.steps.superstep import Position, locate, position_of


async def position_at(
    resources: Resources, graph_id: str, thread_id: UUID, *, checkpoint_id: str, options: RunOptions
) -> Position:
    """Read a thread as a run that was asked for so has left it, at its latest checkpoint."""
    saver = Saver(resources.pool)
    config = reading_config(graph_id, thread_id, options)

    async def read() -> Position:
        async with resources.graphs.open(
            graph_id, config=config, checkpointer=saver, store=resources.store, why="threads.read"
        ) as graph:
            return await locate(graph, str(thread_id), checkpoint_id=checkpoint_id)

    return await resources.loops.run(read, graph_id=graph_id)


async def position_left(
    resources: Resources, graph_id: str, run_id: UUID, *, thread_id: UUID, checkpoint_id: str, options: RunOptions
) -> Position:
    """Read a thread as a run has left it at a checkpoint, whatever later runs have written onto that."""
    saver = Saver(resources.pool)
    config = reading_config(graph_id, thread_id, options)
    async with connection(resources.pool) as conn:
        writes = await left_writes(conn, run_id, thread_id=thread_id, checkpoint_id=checkpoint_id)

    async def read() -> Position:
        async with resources.graphs.open(
            graph_id, config=config, checkpointer=saver, store=resources.store, why="threads.read"
        ) as graph:
            here: RunnableConfig = {"configurable": {"thread_id": str(thread_id)}}
            return position_of(await standing_left(graph, here, checkpoint_id, writes=writes))

    return await resources.loops.run(read, graph_id=graph_id)
