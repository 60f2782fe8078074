"""Graphs that ask a human."""

import operator
import os
import signal
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt


class State(TypedDict, total=False):
    """`crash` names a file: while it does not exist, the node that has an answer creates it and kills its worker."""

    log: Annotated[list[str], operator.add]
    crash: str


def crash_once(state: State) -> None:
    """Kill this process, the first time."""
    if (path := state.get("crash")) and not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def ask(state: State) -> dict[str, list[str]]:
    """Ask one question, then a second."""
    first = interrupt("first?")
    crash_once(state)
    second = interrupt("second?")
    return {"log": [f"{first},{second}"]}


def after(state: State) -> dict[str, list[str]]:
    """Follow."""
    return {"log": ["after"]}


def question(name: str) -> Any:
    """Build a node that asks with its name."""

    def run(state: State, config: RunnableConfig) -> dict[str, list[str]]:
        answer = interrupt(f"{name}?")
        crash_once(state)
        return {"log": [f"{name}={answer}"]}

    return run


builder = StateGraph(State)
builder.add_node("ask", question("ask"))
builder.add_node("after", after)
builder.add_edge(START, "ask")
builder.add_edge("ask", "after")
builder.add_edge("after", END)
hitl = builder.compile()

twice_builder = StateGraph(State)
twice_builder.add_node("ask", ask)
twice_builder.add_edge(START, "ask")
twice_builder.add_edge("ask", END)
twice = twice_builder.compile()

both_builder = StateGraph(State)
for name in ["left", "right"]:
    both_builder.add_node(name, question(name))
    both_builder.add_edge(START, name)
both_builder.add_node("join", after)
both_builder.add_edge(["left", "right"], "join")
both_builder.add_edge("join", END)
both = both_builder.compile()

inner_builder = StateGraph(State)
inner_builder.add_node("inner_ask", question("inner"))
inner_builder.add_edge(START, "inner_ask")
inner_builder.add_edge("inner_ask", END)

outer_builder = StateGraph(State)
outer_builder.add_node("sub", inner_builder.compile())
outer_builder.add_node("after", after)
outer_builder.add_edge(START, "sub")
outer_builder.add_edge("sub", "after")
outer_builder.add_edge("after", END)
nested = outer_builder.compile()
