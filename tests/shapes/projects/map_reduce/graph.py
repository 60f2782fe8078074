"""Cuts a question into parts, answers each beside the others, and picks the best."""

import operator
from typing import Annotated, TypedDict

from langchain.chat_models import init_chat_model
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from pydantic import BaseModel, Field

model = init_chat_model("openai:gpt-4o-mini", temperature=0)

POPULATION = {"Oslo": 717, "Rome": 2746, "Lima": 10092}


class Parts(BaseModel):
    """The parts of a subject."""

    parts: list[str] = Field(description="Two or three parts")


class Best(BaseModel):
    """The best of some texts."""

    number: int = Field(description="Its index, from 0")


class OverallState(TypedDict, total=False):
    place: str
    parts: list[str]
    texts: Annotated[list[str], operator.add]
    told: Annotated[list[str], operator.add]


class PartState(TypedDict):
    place: str
    part: str


async def split(state: OverallState) -> OverallState:
    asked = f"Cut into parts: {state['place']}"
    found = await model.with_structured_output(Parts).ainvoke(asked)
    return {"parts": found.parts}


def each(state: OverallState) -> list[Send]:
    return [Send("write", {"place": state["place"], "part": part}) for part in state["parts"]]


async def write(state: PartState) -> OverallState:
    thousands = POPULATION[state["place"]]
    said = await model.ainvoke(f"Write about the {state['part']} of {state['place']}, home of {thousands} thousand")
    return {"texts": [said.text]}


async def pick(state: OverallState) -> OverallState:
    texts = state["texts"][-len(state["parts"]) :]
    best = await model.with_structured_output(Best).ainvoke(f"Pick the best about {state['place']}: {texts}")
    return {"told": [state["place"], texts[best.number]]}


builder = StateGraph(OverallState)
builder.add_node(split)
builder.add_node(write)
builder.add_node(pick)
builder.add_edge(START, "split")
builder.add_conditional_edges("split", each, ["write"])
builder.add_edge("write", "pick")
builder.add_edge("pick", END)
graph = builder.compile()
