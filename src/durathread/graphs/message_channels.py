"""Which channels of a graph are conversations: those that LangGraph's own reducer of messages keeps.

The reducer is what a key's annotation names, `Annotated[list, add_messages]`, whatever the key is called.
"""

from functools import partial
from typing import Any

from langgraph.channels import BinaryOperatorAggregate
from langgraph.graph.message import add_messages

from durathread.graphs.registry import Graph


def adds_messages(channel: Any) -> bool:
    """Say whether a channel merges messages by their ids, as `add_messages` does."""
    if not isinstance(channel, BinaryOperatorAggregate):
        return False
    reducer: Any = channel.operator
    return (reducer.func if isinstance(reducer, partial) else reducer) is add_messages


def conversations_of(graph: Graph) -> list[str]:
    """Name the keys of a graph's state that are conversations."""
    keys = graph.stream_channels_list
    return [name for name, channel in graph.channels.items() if name in keys and adds_messages(channel)]
