"""Graphs that differ only in their context schema. Each says what it finds, wherever code may look for it."""

import operator
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime, get_runtime
from langgraph.types import Send
from pydantic import BaseModel


@dataclass
class Context:
    """How to speak."""

    tone: str = "plain"
    words: list[str] = field(default_factory=lambda: ["hello"])


class Modelled(BaseModel):
    """How to speak, as a model."""

    tone: str = "plain"


@dataclass
class Demanding:
    """What must be said."""

    tone: str


class DemandingModel(BaseModel):
    """What must be said, as a model."""

    tone: str


class Typed(TypedDict, total=False):
    """How to speak, as a dict."""

    tone: str


class Opaque:
    """What no JSON schema describes."""


@dataclass
class OddContext:
    """How to speak, and something of the application's own."""

    tone: str = "plain"
    opaque: Opaque | None = None


class State(TypedDict, total=False):
    """What was found, by place."""

    log: Annotated[list[str], operator.add]
    seen: Annotated[dict[str, Any], operator.or_]


class Inner(TypedDict, total=False):
    """What a subgraph has found."""

    seen: Annotated[dict[str, Any], operator.or_]


def shown(context: Any) -> Any:
    """Describe a context, and its type."""
    if context is None or isinstance(context, dict):
        return context
    return {"class": type(context).__name__, **vars(context)}


def graph_with(schema: Any) -> Any:
    """Build a graph whose nodes look at the context: in turn, sent to, and in a subgraph."""

    def node(name: str) -> Any:
        async def look(state: State, runtime: Runtime[Any]) -> dict[str, Any]:
            said = getattr(runtime.context, "tone", None) or (runtime.context or {}).get("tone", "none")
            seen = {"seen": {name: shown(runtime.context)}}
            return {"log": [said], **seen} if name == "node" else seen

        return look

    def blocking(state: State) -> dict[str, Any]:
        return {"seen": {"get_runtime": shown(get_runtime().context)}}

    inner = StateGraph(Inner, context_schema=schema)
    inner.add_node("inner", node("inner"))
    inner.add_edge(START, "inner")
    inner.add_edge("inner", END)
    builder = StateGraph(State, context_schema=schema)
    builder.add_node("node", node("node"))
    builder.add_node("sent", node("sent"))
    builder.add_node("blocking", blocking)
    builder.add_node("sub", inner.compile())
    builder.add_edge(START, "node")
    builder.add_conditional_edges("node", lambda _: [Send("sent", {})], ["sent"])
    builder.add_edge("sent", "blocking")
    builder.add_edge("blocking", "sub")
    builder.add_edge("sub", END)
    return builder.compile()


graph = graph_with(Context)
modelled = graph_with(Modelled)
demanding = graph_with(Demanding)
demanding_model = graph_with(DemandingModel)
typed = graph_with(Typed)
free = graph_with(None)
odd = graph_with(OddContext)
