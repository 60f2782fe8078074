"""A graph that says, as texts, what its node finds of what another has set, or a client."""

import math
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph

SET: dict[str, Any] = {
    "nan": math.nan,
    "infinite": -math.inf,
    "zero": -0.0,
    "large": 1e300,
    "whole": 1e22,
    "raw": b"\xff\x00abc",
    "nul": "a\x00b",
    "long": "x" * 5000,
}


class State(TypedDict, total=False):
    """Values of all kinds, `text` of the client's, and what was found."""

    nan: float
    infinite: float
    zero: float
    large: float
    whole: float
    raw: Any
    nul: str
    long: str
    text: str
    found: dict[str, str]


def look(state: State) -> State:
    """Say what is there."""
    return {"found": {key: repr(value) for key, value in state.items() if key != "found"}}


builder: Any = StateGraph(State)
builder.add_node("set", lambda _: SET)
builder.add_node("pause", lambda _: {})
builder.add_node("look", look)
builder.add_edge(START, "set")
builder.add_edge("set", "pause")
builder.add_edge("pause", "look")
builder.add_edge("look", END)
graph = builder.compile()
