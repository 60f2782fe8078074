"""A graph that carries out a plan, item by item, and keeps a log that shows whose work stands in the thread.

Every way for a graph to be slow is in it: nodes, routers, reducers, nodes that say where to go, a subgraph.
"""

import asyncio
import operator
import time
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt


def walk(left: list[str], right: list[str]) -> list[str]:
    """Join; slowly, if a node has asked for it."""
    if any(entry.endswith("/reduce") for entry in right):
        time.sleep(0.3)
    return [*left, *right]


class State(TypedDict):
    """`plan` has an id and items. `log` and `path` only grow.

    `log` has `{plan}/{position}/{run}` for each item that was done, `path` has `{plan}/{position}/{node}` for each node.
    """

    log: Annotated[list[str], operator.add]
    path: Annotated[list[str], walk]
    plan: dict[str, Any]
    left: int


def expected(items: list[Any]) -> list[str]:
    """Name the nodes that a plan runs through."""
    nodes = {"hop": ["hop", "land"], "sub": ["draft", "publish"], "reduce": ["reduce"]}
    return ["take", *(f"{n}/{name}" for n, item in enumerate(items) for name in nodes.get(item, ["work"]))]


def done(state: State) -> int:
    """Count the items of the plan that were done."""
    items: list[Any] = state["plan"]["items"]
    return len(items) - state["left"]


async def take(state: State) -> dict[str, Any]:
    """Begin a plan."""
    plan = state["plan"]
    return {"left": len(plan["items"]), "path": [f"{plan['id']}/take"]}


def through(state: State, config: RunnableConfig, *names: str) -> dict[str, Any]:
    """Say that an item is done, and by which nodes."""
    plan, position = state["plan"], done(state)
    mark = f"{plan['id']}/{position}/{config.get('configurable', {})['run_id']}"
    path = [f"{plan['id']}/{position}/{name}" for name in names]
    return {"log": [mark], "path": path, "left": state["left"] - 1}


async def work(state: State, config: RunnableConfig) -> dict[str, Any]:
    """Do an item.

    That is a number of seconds to sleep, `ask`, `fail`, `stubborn`, which swallows a cancellation, `route`, whose router is
    slow, or `reduce`, whose reducer is.
    """
    plan, position = state["plan"], done(state)
    item = plan["items"][position]
    mark = f"{plan['id']}/{position}/{config.get('configurable', {})['run_id']}"
    get_stream_writer()({"mark": mark})
    if item == "ask":
        interrupt(mark)
    elif item == "fail":
        raise ValueError(mark)
    elif item == "stubborn":
        try:
            await asyncio.sleep(0.5)
        except asyncio.CancelledError:
            await asyncio.sleep(1.5)
    elif not isinstance(item, str):
        await asyncio.sleep(item)
    return through(state, config, "reduce" if item == "reduce" else "work")


async def hop(state: State) -> Command[Literal["land"]]:
    """Take a while to say where to go."""
    await asyncio.sleep(0.5)
    return Command(goto="land", update={"path": [f"{state['plan']['id']}/{done(state)}/hop"]})


async def land(state: State, config: RunnableConfig) -> dict[str, Any]:
    """Arrive."""
    return through(state, config, "land")


class Inner(TypedDict):
    """What the subgraph has been through."""

    names: Annotated[list[str], operator.add]


async def draft(state: Inner) -> Inner:
    """Do the first half."""
    await asyncio.sleep(0.1)
    return {"names": ["draft"]}


async def onwards(state: Inner) -> Literal["publish"]:
    """Take a while to go on."""
    await asyncio.sleep(0.5)
    return "publish"


async def publish(state: Inner) -> Inner:
    """Do the second half."""
    await asyncio.sleep(0.1)
    return {"names": ["publish"]}


inner_builder = StateGraph(Inner)
inner_builder.add_node("draft", draft)
inner_builder.add_node("publish", publish)
inner_builder.add_edge(START, "draft")
inner_builder.add_conditional_edges("draft", onwards)
inner = inner_builder.compile()


async def sub(state: State, config: RunnableConfig) -> dict[str, Any]:
    """Leave an item to the subgraph."""
    found = await inner.ainvoke({"names": []})
    return through(state, config, *found["names"])


async def more(state: State) -> str:
    """Go on while there is something left."""
    items: list[Any] = state["plan"]["items"] if state["left"] else []
    position = len(items) - state["left"]
    if 0 < position <= len(items) and items[position - 1] == "route":
        await asyncio.sleep(0.8)
    if not state["left"]:
        return END
    return {"hop": "hop", "sub": "sub"}.get(items[position], "work")


AFTER = ["work", "hop", "sub", END]
builder = StateGraph(State)
for name, node in {"take": take, "work": work, "land": land, "sub": sub}.items():
    builder.add_node(name, node)
    builder.add_conditional_edges(name, more, AFTER)
builder.add_node("hop", hop)
builder.add_edge(START, "take")
graph = builder.compile()
