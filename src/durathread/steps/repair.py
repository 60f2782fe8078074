"""Makes a conversation whole that was cut off, before a run adds to it.

A run that was interrupted, or has failed, leaves calls of tools without results on its thread; providers then refuse all that
is said later. So the first step of a run that brings an input and asks for it (`on_interrupt`) writes one checkpoint of its
own: with the results that finished tasks have left, what a model had said when it was cut off, and an error as the result of
each other call. What was due is due no more, as after any new input.

It is found out from the thread alone what is to be done, so a step that is repeated does the rest or nothing.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, cast

import psycopg
import structlog
from langchain_core.messages import BaseMessage, RemoveMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    PendingWrite,
)
from langgraph.constants import END, START
from langgraph.graph.message import REMOVE_ALL_MESSAGES, add_messages
from langgraph.prebuilt import ToolNode
from langgraph.pregel import Pregel
from langgraph.types import Command, PregelTask, StateSnapshot

from durathread.db.saver import Saver, made_by
from durathread.errors import Error
from durathread.graphs.message_channels import conversations_of
from durathread.graphs.read_state import NULL_TASK, standing, standing_at
from durathread.graphs.registry import Graph
from durathread.records import REPAIR, Run
from durathread.steps.conversations import Incoming, Text, closed, has_open_calls, incoming, partial

log = structlog.get_logger()

# The key of a graph whose whole state is a conversation.
ROOT = "__root__"

# Tells what the models of tasks had said when they were cut off, by task.
Heard = Callable[[AbstractSet[str]], Awaitable[Mapping[str, Text]]]


def is_asked(run: Run, given: Any) -> bool:
    """Say whether a run repairs what it finds: one that goes on with what is there, or answers a question, does not."""
    return run.options.on_interrupt == "repair" and given is not None and not isinstance(given, Command)


async def repair(graph: Graph, run: Run, *, config: RunnableConfig, saver: Saver, heard: Heard) -> bool:
    """Repair the conversations of a thread; say whether a checkpoint was written that the run is to begin at.

    Args:
        graph: with the run's checkpointer in it.
        run: as claimed, with its input.
        config: the run's.
        saver: the run's.
        heard: is asked about the tasks that were cut off.

    Raises:
        Fenced: the attempt does not own its run any more.
    """
    said = incoming(run.options.input)
    address = config.get("configurable", {})
    if said.replaces_all or address.get("checkpoint_ns"):
        return False
    thread: RunnableConfig = {"configurable": {"thread_id": str(run.thread_id), "checkpoint_ns": ""}}
    latest = await saver.aget_tuple(thread)
    if latest is None:
        return False
    if made_by(latest.metadata, run.run_id):
        # By an attempt before this.
        return True
    named: str | None = address.get("checkpoint_id") or None
    repairing = _Repairing(graph, run, saver, config, said, heard)
    if not named:
        for namespace, subgraph in graph.get_subgraphs(recurse=True):
            # It goes on with its own conversation whenever it is called; all others begin with what they are given.
            if isinstance(subgraph, Pregel) and subgraph.checkpointer is True:
                await repairing.own_history(cast(Graph, subgraph), namespace)
    return await repairing.thread(named or latest.checkpoint["id"], forks=named is not None)


@dataclass(frozen=True)
class _Repairing:
    """What a repair is made with."""

    graph: Graph
    run: Run
    saver: Saver
    config: RunnableConfig
    said: Incoming
    heard: Heard

    async def thread(self, checkpoint_id: str, *, forks: bool) -> bool:
        """Repair the thread at a checkpoint: its latest, or one that the run goes back to."""
        address = {"thread_id": str(self.run.thread_id), "checkpoint_ns": "", "checkpoint_id": checkpoint_id}
        at = _config(self.config, address)
        base = await self.saver.aget_tuple(at)
        if base is None:
            return False
        stored = await standing(self.graph, at)
        # What became of a checkpoint later is no business of a run that goes back to it, unless a call is open there.
        if forks and not any(has_open_calls(_messages(stored, key)) for key in conversations_of(self.graph)):
            return False
        there = _config(self.config, {**address, "checkpoint_id": ""})
        # Where nothing is due, nothing was cut off.
        left = await standing_at(self.graph, there, checkpoint_id, subgraphs=True) if stored.tasks else stored
        return await self._write(self.graph, at, base, stored, left)

    async def own_history(self, subgraph: Graph, namespace: str) -> None:
        """Repair the history of a subgraph that keeps one of its own."""
        place = _config(self.config, {"thread_id": str(self.run.thread_id), "checkpoint_ns": namespace})
        base = await self.saver.aget_tuple(place)
        if base is None:
            return
        left = await standing(self.graph, place, subgraphs=True)
        stored = await standing(self.graph, _config(place, {"checkpoint_id": base.checkpoint["id"]}))
        await self._write(subgraph, place, base, stored, left)

    async def _write(
        self, graph: Graph, place: RunnableConfig, base: CheckpointTuple, stored: StateSnapshot, left: StateSnapshot
    ) -> bool:
        texts = await self.heard(tasks) if (tasks := _cut_off(graph, left)) else {}
        changed: dict[str, list[BaseMessage]] = {}
        for key in conversations_of(graph):
            before, after = _messages(stored, key), closed(_conversation(graph, left, key, texts), self.said)
            if after != before:
                changed[key] = _update(before, after)
        if not changed:
            return False
        conversation = [(NULL_TASK, key, update) for key, update in changed.items()]
        others = [
            write
            for write in base.pending_writes or []
            if write[1] in graph.stream_channels_list and write[1] not in changed
        ]
        try:
            await self._clear(place, base, [*others, *conversation])
        except (Error, psycopg.Error):
            raise
        except Exception as error:  # noqa: BLE001, whatever users' reducers raise
            log.warning("What finished tasks have written is left out of a repair", error=repr(error))
            await self._clear(place, base, conversation)
        return True

    async def _clear(self, place: RunnableConfig, base: CheckpointTuple, writes: Sequence[PendingWrite]) -> None:
        repaired = _Repaired(self.saver, base, writes, self.run)
        await self.graph.copy({"checkpointer": repaired}).aupdate_state(place, None, as_node=END)


class _Repaired(BaseCheckpointSaver[Any]):
    """Shows one checkpoint as if its tasks had written just this, and marks what is made of it as a repair.

    LangGraph's way to let go of all that is due (`as_node=END`) applies what finished tasks have written, in one checkpoint,
    and runs nobody's code but reducers.
    """

    def __init__(self, saver: Saver, base: CheckpointTuple, writes: Sequence[PendingWrite], run: Run) -> None:
        super().__init__(serde=saver.serde)
        self._saver = saver
        self._base = base
        self._writes = writes
        self._run = run

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self._base._replace(pending_writes=[*self._writes])

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        marked = cast(CheckpointMetadata, {**metadata, REPAIR: {"repair": True, "run_id": str(self._run.run_id)}})
        return await self._saver.aput(config, checkpoint, marked, new_versions)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return await self._saver.aget_delta_channel_history(config=config, channels=channels)

    async def alist(self, config: RunnableConfig | None, **options: Any) -> AsyncIterator[CheckpointTuple]:
        async for found in self._saver.alist(config, **options):
            yield found

    def get_next_version(self, current: Any, channel: None) -> Any:
        return self._saver.get_next_version(current, channel)


def _conversation(graph: Graph, left: StateSnapshot, key: str, texts: Mapping[str, Text]) -> list[BaseMessage]:
    """Read a conversation as it was left: with what tasks have come to that were cut off, those of subgraphs included."""
    messages = _messages(left, key)
    for task in left.tasks:
        if not _is_cut_off(task, left):
            continue
        inner = _subgraph(graph, task)
        if inner is not None and isinstance(task.state, StateSnapshot):
            if key in conversations_of(inner) and key in _outputs(inner):
                inside = _conversation(inner, task.state, key, texts)
                messages = cast(list[BaseMessage], add_messages(cast(Any, messages), cast(Any, inside)))
        elif (text := texts.get(task.id)) and text.message_id not in {message.id for message in messages}:
            messages = [*messages, partial(text)]
    return messages


def _cut_off(graph: Graph, left: StateSnapshot) -> set[str]:
    """List the tasks that were cut off and may have been writing a message, in subgraphs too.

    What a model says within a tool is for the tool.
    """
    found = set[str]()
    open_calls = any(has_open_calls(_messages(left, key)) for key in conversations_of(graph))
    for task in left.tasks:
        if not _is_cut_off(task, left):
            continue
        inner = _subgraph(graph, task)
        if inner is not None and isinstance(task.state, StateSnapshot):
            found |= _cut_off(inner, task.state)
        elif not open_calls and not (task.name in graph.nodes and isinstance(graph.nodes[task.name].bound, ToolNode)):
            found.add(task.id)
    return found


def _is_cut_off(task: PregelTask, left: StateSnapshot) -> bool:
    return task.result is None and task.name in left.next and task.name != START


def _subgraph(graph: Graph, task: PregelTask) -> Graph | None:
    """Return the subgraph that a task's node is; None for one that a node calls, which alone knows what it makes of it."""
    node = graph.nodes.get(task.name)
    return cast(Graph, node.bound) if node is not None and isinstance(node.bound, Pregel) else None


def _outputs(graph: Graph) -> Sequence[str]:
    return [graph.output_channels] if isinstance(graph.output_channels, str) else graph.output_channels


def _messages(state: StateSnapshot, key: str) -> list[BaseMessage]:
    values = state.values if key == ROOT else state.values.get(key)
    return [*cast(list[BaseMessage], values)] if isinstance(values, list) else []


def _update(before: Sequence[BaseMessage], after: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Return what makes one of the other: new messages, or all if they do not come last."""
    if list(after[: len(before)]) == list(before):
        return [*after[len(before) :]]
    return [RemoveMessage(id=REMOVE_ALL_MESSAGES), *after]


def _config(config: RunnableConfig, address: Mapping[str, Any]) -> RunnableConfig:
    """Name a place in a config, which also says what is stored beside a checkpoint."""
    configurable = {**config.get("configurable", {}), **address}
    return cast(
        RunnableConfig,
        {
            "configurable": {key: value for key, value in configurable.items() if value or key == "checkpoint_ns"},
            "metadata": config.get("metadata", {}),
        },
    )
