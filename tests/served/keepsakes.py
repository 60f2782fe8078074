"""A graph that makes a value, hands it from node to node, keeps it, asks a human about it, and says what it finds."""

import base64
import dataclasses
import enum
import io
import pickle
from collections import deque
from typing import Any, NamedTuple, cast

from langgraph.graph import START, StateGraph
from langgraph.store.base import BaseStore
from langgraph.types import interrupt
from pydantic import BaseModel
from typing_extensions import TypedDict


class Colour(enum.Enum):
    """One of two."""

    RED = "red"
    BLUE = 2


@dataclasses.dataclass
class Point:
    """Holds others."""

    x: Any
    y: Any = None


class Pair(NamedTuple):
    """Holds two."""

    left: Any
    right: Any


class Model(BaseModel):
    """Holds one."""

    name: str
    value: Any = None


def told(value: Any) -> Any:
    """Write a value so that what is equal looks equal, and only that: NaN, minus zero and the types included."""
    if isinstance(value, dict):
        # Postgres has an order of its own for keys.
        return sorted((repr(key), told(item)) for key, item in cast("dict[Any, Any]", value).items())
    if isinstance(value, set | frozenset):
        return type(value).__name__, sorted(repr(told(item)) for item in cast("set[Any]", value))
    if isinstance(value, Point | Pair | Model):
        parts = value._asdict() if isinstance(value, Pair) else vars(value)
        return type(value).__name__, told(parts)
    if isinstance(value, list | tuple):
        # LangGraph's serializer makes lists of tuples.
        return "list", [told(item) for item in cast("list[Any]", value)]
    if isinstance(value, deque):
        return "deque", [told(item) for item in cast("deque[Any]", value)]
    return type(value).__name__, repr(value)


class Unpickler(pickle.Unpickler):
    """Finds the types of this file, which a server loads by its path, under their own names."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Find a type."""
        here = module_name == "tests.served.keepsakes"
        return globals()[global_name] if here else super().find_class(module_name, global_name)


class State(TypedDict, total=False):
    """What is made, pickled and then made; what a client gives; and what the nodes say of both."""

    pickled: str
    made: Any
    given: Any
    found: dict[str, str]
    answer: str
    kept: str


async def make(state: State) -> State:
    """Make the value."""
    return {"made": Unpickler(io.BytesIO(base64.b64decode(state.get("pickled", "")))).load()}


async def look(state: State) -> State:
    """Say what is there."""
    return {"found": {key: repr(told(state.get(key))) for key in ("made", "given")}}


async def keep(state: Any, store: BaseStore) -> State:
    """Keep what the client gives, and the value if it is one that a store takes; say what is read."""
    if not isinstance(state["made"], dict):
        return {}
    await store.aput(("keepsakes",), "it", state["made"])
    item = await store.aget(("keepsakes",), "it")
    found = await store.asearch(("keepsakes",))
    assert item is not None
    assert repr(told(found[0].value)) == repr(told(item.value))
    return {"kept": repr(told(item.value))}


async def ask(state: Any) -> State:
    """Ask about the value."""
    return {"answer": repr(told(interrupt(state["made"])))}


builder: Any = StateGraph(State)
for node in (make, look, keep, ask):
    builder.add_node(node)
builder.add_edge(START, "make")
builder.add_edge("make", "look")
builder.add_edge("look", "keep")
builder.add_edge("keep", "ask")
graph = builder.compile()
