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
