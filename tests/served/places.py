"""Graphs of every shape, each place of which can be held: in a node, a router, a reducer, a tool, a task, a subgraph.

`configurable` says what to do: `trace` is a file that gets a line for each place that is passed, `gates` the files that a
place waits for, by its name.
"""

import asyncio
import time
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.config import get_config
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.prebuilt.tool_node import tools_condition
from langgraph.types import Command, Send


def add(left: list[str], right: list[str]) -> list[str]:
    """Join, slowly: what begins with a slash is a file to wait for."""
    for entry in right:
        if entry.startswith("/"):
            _wait(entry)
    return [*left, *(entry for entry in right if not entry.startswith("/"))]


class State(TypedDict, total=False):
    """`log` names the nodes that are through, in order."""

    log: Annotated[list[str], add]


def _enter(place: str) -> str | None:
    configurable = get_config().get("configurable", {})
    with Path(configurable["trace"]).open("a") as trace:
        trace.write(f"{place}\n")
    return configurable["gates"].get(place)


def _wait(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.01)


async def at(place: str) -> None:
    """Pass a place."""
    if gate := _enter(place):
        while not Path(gate).exists():  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.01)


def at_once(place: str) -> None:
    """Pass a place in code that is not async."""
    if gate := _enter(place):
        _wait(gate)


def node(name: str) -> Any:
    """Build a node."""

    async def run(state: State) -> State:
        await at(name)
        return {"log": [name]}

    return run


def blocking(name: str) -> Any:
    """Build a node that is not async."""

    def run(state: State) -> State:
        at_once(name)
        return {"log": [name]}

    return run


async def route(state: State) -> Literal["publish"]:
    """Think about the way."""
    await at("route")
    return "publish"


def route_at_once(state: State) -> Literal["publish"]:
    """Think about the way, in a thread."""
    at_once("route")
    return "publish"


def chain(router: Any, make: Any = node) -> StateGraph[Any]:
    """Build `draft`, a router, `publish`."""
    builder = StateGraph(State)
    builder.add_node("draft", make("draft"))
    builder.add_node("publish", make("publish"))
    builder.add_edge(START, "draft")
    builder.add_conditional_edges("draft", router)
    builder.add_edge("publish", END)
    return builder


routed = chain(route).compile()
blocked = chain(route_at_once, blocking).compile()

nested_builder = StateGraph(State)
nested_builder.add_node("sub", chain(route).compile())
nested_builder.add_node("after", node("after"))
nested_builder.add_edge(START, "sub")
nested_builder.add_edge("sub", "after")
nested = nested_builder.compile()


async def command(state: State) -> Command[Literal["publish"]]:
    """Say where to go, after a while."""
    await at("draft")
    return Command(goto="publish", update={"log": ["draft"]})


commanding_builder = StateGraph(State)
commanding_builder.add_node("draft", command)
commanding_builder.add_node("publish", node("publish"))
commanding_builder.add_edge(START, "draft")
commanding = commanding_builder.compile()


async def fan(state: State) -> list[Send]:
    """Send three."""
    await at("fan")
    return [Send("work", {"log": [str(number)]}) for number in range(3)]


async def work(state: State) -> State:
    """Do what was sent."""
    name = f"work{state.get('log', [''])[0]}"
    await at(name)
    return {"log": [name]}


sending_builder = StateGraph(State)
sending_builder.add_node("draft", node("draft"))
sending_builder.add_node("work", work)
sending_builder.add_node("publish", node("publish"))
sending_builder.add_edge(START, "draft")
sending_builder.add_conditional_edges("draft", fan, ["work"])
sending_builder.add_conditional_edges("work", route)
sending = sending_builder.compile()


async def reduce(state: State) -> State:
    """Leave to the reducer what takes long."""
    gate = _enter("reducer")
    return {"log": ["draft", *([gate] if gate else [])]}


reducing_builder = StateGraph(State)
reducing_builder.add_node("draft", reduce)
reducing_builder.add_node("publish", node("publish"))
reducing_builder.add_edge(START, "draft")
reducing_builder.add_edge("draft", "publish")
reducing = reducing_builder.compile()


@task
async def first() -> str:
    """Do the first half."""
    await at("draft")
    return "draft"


@task
async def second() -> str:
    """Do the second half."""
    await at("publish")
    return "publish"


@entrypoint()
async def functional(given: dict[str, Any]) -> dict[str, Any]:
    """Do both."""
    return {"log": [await first(), await second()]}


@tool
async def search(what: str) -> str:
    """Search."""
    await at("tool")
    return "found"


class Scripted(BaseChatModel):
    """Calls the tool, and answers with what it came to."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        last = messages[-1]
        if isinstance(last, ToolMessage):
            answer = AIMessage(str(last.content))
        else:
            answer = AIMessage("", tool_calls=[{"name": "search", "args": {"what": "it"}, "id": "call"}])
        return ChatResult(generations=[ChatGeneration(message=answer)])


async def model(state: MessagesState) -> dict[str, Any]:
    """Ask the model."""
    await at("model")
    return {"messages": [await Scripted().ainvoke(state["messages"])]}


async def on(state: MessagesState) -> str:
    """Decide whether a tool is called, after a while."""
    await at("condition")
    return tools_condition(state["messages"])


agent_builder = StateGraph(MessagesState)
agent_builder.add_node("model", model)
agent_builder.add_node("tools", ToolNode([search]))
agent_builder.add_edge(START, "model")
agent_builder.add_conditional_edges("model", on, ["tools", END])
agent_builder.add_edge("tools", "model")
agent = agent_builder.compile()
