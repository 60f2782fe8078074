"""A graph that keeps and searches items, and an embedding that tells animals from vehicles."""

from typing import Any

from langgraph.graph import START, StateGraph
from langgraph.store.base import BaseStore
from typing_extensions import TypedDict

ANIMALS = ("cat", "dog", "horse")
VEHICLES = ("car", "bus", "train")


async def embed(texts: list[str]) -> list[list[float]]:
    """Count animals and vehicles."""
    return [[_count(text, ANIMALS), _count(text, VEHICLES), 0.1] for text in texts]


def _count(text: str, words: tuple[str, ...]) -> float:
    return float(sum(word in text.lower() for word in words))


class State(TypedDict, total=False):
    """What the graph is asked, and what it has found."""

    label: str
    keep: dict[str, Any]
    query: str | None
    filter: dict[str, Any] | None
    found: list[str]


async def remember(state: State, store: BaseStore) -> State:
    """Keep items."""
    for key, value in state.get("keep", {}).items():
        await store.aput(("memory", state.get("label", "")), key, value)
    return {}


def recall(state: State, store: BaseStore) -> State:
    """Search items, from a thread of its own."""
    found = store.search(("memory", state.get("label", "")), query=state.get("query"), filter=state.get("filter"))
    return {"found": [item.key for item in found]}


builder = StateGraph(State)
builder.add_node("remember", remember)
builder.add_node("recall", recall)
builder.add_edge(START, "remember")
builder.add_edge("remember", "recall")
graph = builder.compile()
