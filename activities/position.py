"""Where a run stood at one of its checkpoints, read with its graph."""

from uuid import UUID

from durathread.activities.resources import Resources
from durathread.activities.superstep import Position, locate
from durathread.store.saver import Saver


async def position_at(resources: Resources, graph_id: str, thread_id: UUID, *, checkpoint_id: str) -> Position:
    """Read a thread as it was at a checkpoint."""
    saver = Saver(resources.pool)

    async def read() -> Position:
        async with resources.graphs.open(graph_id, checkpointer=saver) as graph:
            return await locate(graph, str(thread_id), checkpoint_id=checkpoint_id)

    return await resources.loops.run(read)
