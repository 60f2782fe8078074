"""Where a thread stands, also when LangGraph cannot say.

LangGraph reads the latest checkpoint as if the step after it had ended: it applies what the tasks of that step have written.
When that is what failed, because two tasks wrote a key that takes one value or a reducer raised, reading fails the same way.
Then the checkpoint is read as the history shows it, with what its tasks came to beside it. The history itself applies what
a command has written, which may fail too: then without that.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal, cast

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple, DeltaChannelHistory, PendingWrite
from langgraph.constants import START
from langgraph.types import PregelTask, StateSnapshot

from durathread.errors import Error
from durathread.graphs.registry import Graph
from durathread.records import Run

# Whose writes are those of commands.
NULL_TASK = "00000000-0000-0000-0000-000000000000"


async def standing(graph: Graph, config: RunnableConfig, *, subgraphs: bool = False) -> StateSnapshot:
    """Read a thread, or a subgraph of it, at its latest checkpoint or at the one that is named."""
    try:
        return await graph.aget_state(config, subgraphs=subgraphs)
    except (Error, psycopg.Error):
        raise
    except Exception:
        for snapshot in await past(graph, config, limit=1):
            return await _current(graph, snapshot, subgraphs=subgraphs)
        raise


async def past(graph: Graph, config: RunnableConfig, **options: Any) -> list[StateSnapshot]:
    """Read the history of a thread, or of a subgraph of it, newest first; the options are LangGraph's."""
    try:
        return [snapshot async for snapshot in graph.aget_state_history(config, **options)]
    except (Error, psycopg.Error):
        raise
    except Exception:  # noqa: BLE001, whatever users' reducers raise; what is wrong otherwise is raised again
        bare = graph.copy({"checkpointer": _Uncommanded(cast(BaseCheckpointSaver[Any], graph.checkpointer))})
        return [snapshot async for snapshot in bare.aget_state_history(config, **options)]


async def standing_at(
    graph: Graph, config: RunnableConfig, checkpoint_id: str, *, subgraphs: bool = False
) -> StateSnapshot:
    """Read a thread as it stood when a checkpoint was its latest, by whatever its tasks have written since.

    To name the checkpoint in the config says something else: what was next when it was stored, whatever has become of it.
    """
    checkpointer = cast(BaseCheckpointSaver[Any], graph.checkpointer)
    return await standing(graph.copy({"checkpointer": _AsOf(checkpointer, checkpoint_id)}), config, subgraphs=subgraphs)


async def standing_left(
    graph: Graph, config: RunnableConfig, checkpoint_id: str, *, writes: Sequence[PendingWrite]
) -> StateSnapshot:
    """Read a thread as it stood when a checkpoint was its latest, and its tasks had written just that."""
    checkpointer = cast(BaseCheckpointSaver[Any], graph.checkpointer)
    return await standing(graph.copy({"checkpointer": _AsLeft(checkpointer, checkpoint_id, writes)}), config)


async def is_at_breakpoint(graph: Graph, run: Run) -> bool:
    """Say whether the superstep that was the last on a thread, or the one that is next, has a breakpoint of the run between them."""
    before = run.options.interrupt_before or graph.interrupt_before_nodes
    after = run.options.interrupt_after or graph.interrupt_after_nodes
    if not before and not after:
        return False
    state = await standing(graph, {"configurable": {"thread_id": str(run.thread_id)}})
    if not state.next:
        return False
    if _names(before, state.next):
        return True
    if not after or state.parent_config is None:
        return False
    return _names(after, (await standing(graph, state.parent_config)).next)


def _names(breakpoints: Literal["*"] | Sequence[str], nodes: Sequence[str]) -> bool:
    # LangGraph's own first superstep, which takes an input, has no breakpoints.
    own = set(nodes) - {START}
    return bool(own) if "*" in breakpoints else not own.isdisjoint(breakpoints)


class _Reading(BaseCheckpointSaver[Any]):
    """Reads checkpoints otherwise than they are."""

    def __init__(self, saver: BaseCheckpointSaver[Any]) -> None:
        super().__init__(serde=saver.serde)
        self._saver = saver

    def _asked(self, config: RunnableConfig) -> RunnableConfig:
        return config

    def _found(self, found: CheckpointTuple) -> CheckpointTuple:
        return found

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        found = await self._saver.aget_tuple(self._asked(config))
        return found and self._found(found)

    async def alist(self, config: RunnableConfig | None, **options: Any) -> AsyncIterator[CheckpointTuple]:
        async for found in self._saver.alist(config and self._asked(config), **options):
            yield self._found(found)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return await self._saver.aget_delta_channel_history(config=self._asked(config), channels=channels)


class _Uncommanded(_Reading):
    """Reads checkpoints without what commands have written to them."""

    def _found(self, found: CheckpointTuple) -> CheckpointTuple:
        return found._replace(pending_writes=[write for write in found.pending_writes or [] if write[0] != NULL_TASK])


class _AsOf(_Reading):
    """Reads a thread as if one of its checkpoints were its latest."""

    def __init__(self, saver: BaseCheckpointSaver[Any], checkpoint_id: str) -> None:
        super().__init__(saver)
        self._checkpoint_id = checkpoint_id

    def _asked(self, config: RunnableConfig) -> RunnableConfig:
        address = config.get("configurable", {})
        if address.get("checkpoint_ns") or address.get("checkpoint_id"):
            return config
        return {**config, "configurable": {**address, "checkpoint_id": self._checkpoint_id}}


class _AsLeft(_AsOf):
    """Reads a thread as if one of its checkpoints were its latest, and only some writes were on it."""

    def __init__(self, saver: BaseCheckpointSaver[Any], checkpoint_id: str, writes: Sequence[PendingWrite]) -> None:
        super().__init__(saver, checkpoint_id)
        self._writes = writes

    def _found(self, found: CheckpointTuple) -> CheckpointTuple:
        return (
            found._replace(pending_writes=[*self._writes]) if found.checkpoint["id"] == self._checkpoint_id else found
        )


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
