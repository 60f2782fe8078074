"""A graph that carries out a plan, one superstep an item, and keeps a log that shows whose work stands in the thread."""

import asyncio
import operator
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt


class State(TypedDict):
    """`plan` has an id and items; `log` only grows: `{plan}/{position}/{run}` for each item that was done."""

    log: Annotated[list[str], operator.add]
    plan: dict[str, Any]
    left: int


def done(state: State) -> int:
    """Count the items of the plan that were done."""
    items: list[Any] = state["plan"]["items"]
    return len(items) - state["left"]


async def take(state: State) -> dict[str, Any]:
    """Begin a plan."""
    return {"left": len(state["plan"]["items"])}


async def work(state: State, config: RunnableConfig) -> dict[str, Any]:
    """Do an item: a number of seconds to sleep, `ask`, `fail`, or `stubborn`, which swallows a cancellation."""
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
    else:
        await asyncio.sleep(item)
    return {"log": [mark], "left": state["left"] - 1}


def more(state: State) -> str:
    """Go on while there is something left."""
    return "work" if state["left"] else END


builder = StateGraph(State)
builder.add_node("take", take)
builder.add_node("work", work)
builder.add_edge(START, "take")
builder.add_conditional_edges("take", more, ["work", END])
builder.add_conditional_edges("work", more, ["work", END])
graph = builder.compile()
