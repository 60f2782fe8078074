"""A graph whose nodes do well, but what they write cannot be put together."""

import operator
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt


class State(TypedDict, total=False):
    """`calm`: only one node writes `key`. `term`: what is added to `total`. `asks`: a third node asks meanwhile."""

    key: str
    total: Annotated[int, operator.add]
    calm: bool
    term: Any
    asks: bool


def left(state: State) -> dict[str, Any]:
    """Write `key`, and add to `total`."""
    return {"key": "left", "total": state.get("term", 1)}


def right(state: State) -> dict[str, Any]:
    """Write `key` too, if not calm."""
    return {"total": 1} if state.get("calm") else {"key": "right"}


def ask(state: State) -> dict[str, Any]:
    """Ask what to add."""
    return {"total": interrupt("how much?")}


def route(state: State) -> list[str]:
    """Choose the nodes."""
    return ["left", "right", "ask"] if state.get("asks") else ["left", "right"]


builder = StateGraph(State)
for name, node in {"left": left, "right": right, "ask": ask}.items():
    builder.add_node(name, node)
    builder.add_edge(name, END)
builder.add_conditional_edges(START, route, ["left", "right", "ask"])
graph = builder.compile()

outer_builder = StateGraph(State)
outer_builder.add_node("sub", graph)
outer_builder.add_edge(START, "sub")
outer_builder.add_edge("sub", END)
nested = outer_builder.compile()
