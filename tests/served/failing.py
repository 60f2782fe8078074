"""A graph that fails: in a node with an exception of its own, or on the way to the next one."""

import operator
from typing import Annotated, TypedDict

from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph


class Secret(Exception):
    """An exception whose text nobody may read."""


@tool
def leak() -> str:
    """Fail."""
    raise Secret("the password is swordfish")


class State(TypedDict, total=False):
    """`log` decides: `lost` fails on the way, `secret` in the second node, `tool` in a tool that it calls."""

    log: Annotated[list[str], operator.add]


def first(state: State) -> dict[str, list[str]]:
    """Do nothing much."""
    return {"log": ["first"]}


def second(state: State) -> dict[str, list[str]]:
    """Fail if asked to."""
    if "secret" in state.get("log", []):
        raise Secret("the password is swordfish")
    if "tool" in state.get("log", []):
        leak.invoke({})
    return {"log": ["second"]}


def route(state: State) -> str:
    """Choose the way."""
    if "lost" in state.get("log", []):
        raise Secret("the password is swordfish")
    return "second"


builder = StateGraph(State)
builder.add_node("first", first)
builder.add_node("second", second)
builder.add_edge(START, "first")
builder.add_conditional_edges("first", route, ["second"])
builder.add_edge("second", END)
graph = builder.compile()
