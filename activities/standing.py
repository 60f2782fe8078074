"""Where a thread stands, also when LangGraph cannot say.

LangGraph reads the latest checkpoint as if the step after it had ended: it applies what the tasks of that step have written.
When that is what failed, because two tasks wrote a key that takes one value or a reducer raised, reading fails the same way.
Then the checkpoint is read as the history shows it, with what its tasks came to beside it.
"""

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.types import PregelTask, StateSnapshot

from durathread.errors import Error
from durathread.graphs import Graph


async def standing(graph: Graph, config: RunnableConfig, *, subgraphs: bool = False) -> StateSnapshot:
    """Read a thread, or a subgraph of it, at its latest checkpoint or at the one that is named."""
    try:
        return await graph.aget_state(config, subgraphs=subgraphs)
    except (Error, psycopg.Error):
        raise
    except Exception:
        async for snapshot in graph.aget_state_history(config, limit=1):
            return await _current(graph, snapshot, subgraphs=subgraphs)
        raise


async def _current(graph: Graph, snapshot: StateSnapshot, *, subgraphs: bool) -> StateSnapshot:
    """Turn a state of a history into one that asks only what is not answered, with the states of subgraphs if wanted."""
    tasks = [task if task.result is None else task._replace(interrupts=()) for task in snapshot.tasks]
    if subgraphs:
        tasks = [await _opened(graph, task) for task in tasks]
    asked = tuple(interrupt for task in tasks for interrupt in task.interrupts)
    return snapshot._replace(tasks=tuple(tasks), interrupts=asked)


async def _opened(graph: Graph, task: PregelTask) -> PregelTask:
    if task.state is None or isinstance(task.state, StateSnapshot):
        return task
    return task._replace(state=await standing(graph, task.state, subgraphs=True))
