"""Nodes that a checkpoint waits for, and that the graph does not have any more.

LangGraph passes over them: the run ends as if it had come to its end, and an answer that was given to one is lost. Which nodes
are due is written in a checkpoint's channels, whose names are LangGraph's own affair: this module owns what is known of them.
"""

from collections.abc import Collection
from typing import Any, cast

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.pregel import Pregel
from langgraph.types import Send

from durathread.errors import Conflict
from durathread.graphs.registry import Graph

# The channel that makes a node due, and that of nodes which were sent to.
DUE = "branch:to:"
SENT = "__pregel_tasks"


class GoneNode(Conflict):
    """A run cannot go on where its thread stands: the graph has no such node any more."""


class Continued:
    """Looks at the checkpoint that a run goes on from."""

    def __init__(self, graph: Graph, graph_id: str) -> None:
        """Take the graph that is to go on."""
        self._graph, self._graph_id = graph, graph_id

    def examine(self, namespace: str, found: CheckpointTuple) -> None:
        """Look at a checkpoint of the graph, or of a subgraph of it.

        Raises:
            GoneNode: it waits for a node that is not there.
        """
        due = _due(found.checkpoint["channel_values"])
        nodes = self._nodes(namespace) if due else None
        gone = sorted(due - set(nodes)) if nodes is not None else []
        if gone:
            place = f" in subgraph '{'|'.join(_path(namespace))}'" if namespace else ""
            raise GoneNode(
                f"Graph '{self._graph_id}' has no node '{gone[0]}'{place} any more, which checkpoint "
                f"{found.checkpoint['id']} waits for. Nothing was run, and what waits is kept: bring the node back, or go on "
                f"with a new input, a command with 'goto', or an update of the state."
            )

    def _nodes(self, namespace: str) -> Collection[str] | None:
        """Name the nodes of the graph, or of a subgraph that is a node; None for one that a node calls, which only it knows."""
        graph = self._graph
        for name in _path(namespace):
            node = graph.nodes.get(name)
            if node is None or not isinstance(node.bound, Pregel):
                return None
            graph = cast(Graph, node.bound)
        return graph.nodes


def _due(values: dict[str, Any]) -> set[str]:
    due = {channel.removeprefix(DUE) for channel in values if channel.startswith(DUE)}
    sent = values.get(SENT)
    return due | {each.node for each in sent if isinstance(each, Send)} if isinstance(sent, list) else due


def _path(namespace: str) -> list[str]:
    """Name the nodes that lead to a subgraph: without the ids of their tasks."""
    return [part.partition(":")[0] for part in namespace.split("|")] if namespace else []
