"""When messages get their ids: before the first event that shows them, so that all modes and the state show the same.

LangGraph's `add_messages` gives ids when it is run, and that is after the events of the node have been sent.
"""

import asyncio
import operator
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, cast
from uuid import UUID, uuid4

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langgraph.channels import BinaryOperatorAggregate
from langgraph.pregel import Pregel
from langgraph.types import Command

from durathread.graphs.message_channels import adds_messages
from durathread.graphs.registry import Graph
from durathread.records import JsonObject

Namespace = tuple[str, ...]
Chunk = tuple[Namespace, str, Any]

ROOT = "__root__"
# What says that the reducers of a step have been run.
REDUCED = ("values", "checkpoints")
# The module of `operator.add` and the like.
PLAIN = operator.add.__module__


class MessageIds(BaseCallbackHandler):
    """Gives ids to the messages that a node returns, if the reducer of their channel is about to do it.

    Others keep what they have: their ids would be seen in the state. What a reducer of the user's makes of a message is known
    only when it has been run.
    """

    run_inline = True

    def __init__(self, graph: Graph) -> None:
        """Learn which channels of a graph give ids."""
        self._channels: dict[Namespace, Mapping[str, Any]] = {(): graph.channels}
        for name, subgraph in graph.get_subgraphs(recurse=True):
            if isinstance(subgraph, Pregel):
                self._channels[tuple(name.split("|"))] = subgraph.channels
        self._nodes: dict[UUID, Namespace] = {}

    @property
    def ignore_llm(self) -> bool:
        """Hear nothing of models."""
        return True

    @property
    def ignore_chat_model(self) -> bool:
        """Hear nothing of chat models."""
        return True

    @property
    def ignore_retriever(self) -> bool:
        """Hear nothing of retrievers."""
        return True

    @property
    def ignore_agent(self) -> bool:
        """Hear nothing of tools."""
        return True

    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: dict[str, Any],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note that a node begins."""
        if metadata and "langgraph_node" in metadata and kwargs.get("name") == metadata["langgraph_node"]:
            self._nodes[run_id] = _names(metadata["langgraph_checkpoint_ns"].split("|")[:-1])

    def on_chain_end(self, outputs: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any) -> None:
        """Give ids to what a node returns."""
        if (namespace := self._nodes.pop(run_id, None)) is not None:
            self._give(namespace, outputs)

    def named(self, event: JsonObject) -> JsonObject:
        """Give ids to what a node returns as an event of `astream_events` shows it, which may come before its end."""
        metadata = event.get("metadata") or {}
        if event["event"] in ("on_chain_stream", "on_chain_end") and event["name"] == metadata.get("langgraph_node"):
            data = event["data"]
            self._give(
                _names(metadata["langgraph_checkpoint_ns"].split("|")[:-1]), data.get("chunk", data.get("output"))
            )
        return event

    def _give(self, namespace: Namespace, outputs: Any) -> None:
        if (channels := self._channels.get(namespace)) is None:
            return
        for name, value in _writes(outputs, channels):
            if adds_messages(channels.get(name)):
                for message in _unnamed(value):
                    message.id = str(uuid4())

    def on_chain_error(
        self, error: BaseException, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """Forget a node that has failed."""
        self._nodes.pop(run_id, None)

    async def settled(self, chunks: AsyncIterator[Chunk]) -> AsyncGenerator[Chunk]:
        """Pass on what a graph yields. What shows messages whose ids are still to come waits for the reducers of its step."""
        waiting: list[Chunk] = []
        try:
            async for chunk in chunks:
                namespace, mode, _ = chunk
                if waiting and mode in REDUCED:
                    for held in [held for held in waiting if held[0][: len(namespace)] == namespace]:
                        waiting.remove(held)
                        yield held
                if self._is_early(chunk):
                    waiting.append(chunk)
                else:
                    yield chunk
        except (Exception, asyncio.CancelledError):
            for held in waiting:
                yield held
            raise
        for held in waiting:
            yield held

    def _is_early(self, chunk: Chunk) -> bool:
        namespace, mode, data = chunk
        channels = self._channels.get(_names(namespace))
        for name, value in _shown(mode, data):
            if (channels is None or _may_give_ids(channels.get(name))) and next(_unnamed(value), None):
                return True
        return False


def _shown(mode: str, data: Any) -> Iterator[tuple[str, Any]]:
    """List what nodes have written, by channel, as an event shows it."""
    match mode:
        case "updates":
            for update in cast(JsonObject, data).values():
                for each in cast(list[Any], update) if isinstance(update, list) else [update]:
                    yield from cast(JsonObject, each).items() if isinstance(each, dict) else [(ROOT, each)]
        case "tasks":
            yield from (data.get("result") or {}).items()
        case "debug" if data["type"] == "task_result":
            yield from data["payload"]["result"].items()
        case _:
            pass


def _writes(output: Any, channels: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """List what a node writes, by channel."""
    if isinstance(output, Command):
        if output.graph is None:
            yield from _writes(cast(Any, output.update), channels)
    elif isinstance(output, Mapping):
        yield from cast(Mapping[str, Any], output).items()
    elif isinstance(output, BaseMessage):
        yield ROOT, output
    elif isinstance(output, list | tuple):
        for each in cast(Sequence[Any], output):
            match each:
                case (str(name), value):
                    yield name, value
                case _:
                    yield from _writes(each, channels)
    elif output is not None:
        yield from ((name, getattr(output, name)) for name in channels if hasattr(output, name))


def _unnamed(value: Any) -> Iterator[BaseMessage]:
    if isinstance(value, BaseMessage):
        if value.id is None:
            yield value
    elif isinstance(value, list | tuple):
        for each in cast(Sequence[Any], value):
            yield from _unnamed(each)
    elif isinstance(value, dict) and "$writes" in value:
        # Several writes to one channel, as `tasks` shows them.
        yield from _unnamed(cast(JsonObject, value)["$writes"])


def _may_give_ids(channel: Any) -> bool:
    return isinstance(channel, BinaryOperatorAggregate) and getattr(channel.operator, "__module__", "") != PLAIN


def _names(namespace: Sequence[str]) -> Namespace:
    return tuple(part.partition(":")[0] for part in namespace)
