"""One graph before and after somebody has renamed or removed its nodes. Whoever runs the one goes on with the other."""

import operator
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send, interrupt


class State(TypedDict, total=False):
    """What was said."""

    log: Annotated[list[str], operator.add]


def ask(state: State) -> State:
    """Ask."""
    return {"log": [interrupt("which?")]}


def note(state: State) -> State:
    """Go through."""
    return {"log": ["noted"]}


def graph(*nodes: tuple[str, Any]) -> Any:
    """Build a chain."""
    builder = StateGraph(State)
    for before, (name, node) in zip([START, *(name for name, _ in nodes)], nodes, strict=False):
        builder.add_node(name, node)
        builder.add_edge(before, name)
    return builder.compile()


def sending(name: str) -> Any:
    """Build a graph that sends to a node that asks."""
    builder = StateGraph(State)
    builder.add_node("first", note)
    builder.add_node(name, ask)
    builder.add_conditional_edges("first", lambda _: [Send(name, {}), Send(name, {})], [name])
    builder.add_edge(START, "first")
    builder.add_edge(name, END)
    return builder.compile()


asks, asks_after = graph(("first", note), ("ask", ask)), graph(("first", note), ("ask_kindly", ask))
sends, sends_after = sending("ask"), sending("ask_kindly")
nests, nests_after = (graph(("first", note), ("sub", inner)) for inner in (asks, asks_after))
