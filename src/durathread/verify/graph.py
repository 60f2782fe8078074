"""The graph that `durathread verify` runs: three nodes, the second of which takes as long as it is told.

It needs nothing but LangGraph: copy it to the server that is to be verified, and name it `verify` in its langgraph.json.
"""

import asyncio
import operator
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph


class State(TypedDict, total=False):
    """What has happened, and how many seconds the second node takes."""

    log: Annotated[list[str], operator.add]
    seconds: float


async def a(state: State) -> dict[str, Any]:
    """Say so."""
    return {"log": ["a"]}


async def b(state: State) -> dict[str, Any]:
    """Take a while."""
    await asyncio.sleep(state.get("seconds", 0))
    return {"log": ["b"]}


async def c(state: State) -> dict[str, Any]:
    """Say so."""
    return {"log": ["c"]}


builder = StateGraph(State).add_node("a", a).add_node("b", b).add_node("c", c)
graph = builder.add_edge(START, "a").add_edge("a", "b").add_edge("b", "c").add_edge("c", END).compile()
