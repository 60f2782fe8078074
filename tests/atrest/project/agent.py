"""A graph that puts what it is told wherever a graph can put something."""

from typing import Any, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.store.base import BaseStore
from langgraph.types import interrupt


class State(TypedDict):
    """What it is told, what it was answered, and how often it was asked."""

    word: str
    words: list[str]
    answer: str
    asked: int


async def remember(state: State, store: BaseStore) -> dict[str, Any]:
    """Keep it."""
    await store.aput(("memories",), "word", {"word": state["word"]})
    return {"words": [state["word"], state["word"]], "asked": 1}


def ask(state: State) -> dict[str, Any]:
    """Ask about it."""
    return {"answer": interrupt({"question": state["word"]})}


def fail(state: State) -> dict[str, Any]:
    """Say it where it hurts, if asked to."""
    if state["answer"].startswith("fail"):
        raise ValueError(state["answer"])
    return {}


builder = StateGraph(State)
builder.add_node(remember)
builder.add_node(ask)
builder.add_node(fail)
builder.add_edge(START, "remember")
builder.add_edge("remember", "ask")
builder.add_edge("ask", "fail")
graph = builder.compile()
