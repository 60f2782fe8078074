"""A graph with a context schema."""

import operator
from dataclasses import dataclass
from typing import Annotated, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime


@dataclass
class Context:
    """How to speak."""

    tone: str = "plain"


class State(TypedDict, total=False):
    """What was said."""

    log: Annotated[list[str], operator.add]


async def speak(state: State, runtime: Runtime[Context]) -> dict[str, list[str]]:
    """Say the tone."""
    return {"log": [runtime.context.tone if runtime.context else "none"]}


builder = StateGraph(State, context_schema=Context)
builder.add_node("speak", speak)
builder.add_edge(START, "speak")
builder.add_edge("speak", END)
graph = builder.compile()


class Opaque:
    """What no JSON schema describes."""


@dataclass
class OddContext:
    """How to speak, and something of the application's own."""

    tone: str = "plain"
    opaque: Opaque | None = None


async def speak_oddly(state: State, runtime: Runtime[OddContext]) -> dict[str, list[str]]:
    """Say the tone."""
    return {"log": [runtime.context.tone if runtime.context else "none"]}


odd_builder = StateGraph(State, context_schema=OddContext)
odd_builder.add_node("speak", speak_oddly)
odd_builder.add_edge(START, "speak")
odd_builder.add_edge("speak", END)
odd = odd_builder.compile()
