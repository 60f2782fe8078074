"""A message has the same id in every mode, and the id that it has in the state."""

import asyncio
import operator
from collections.abc import Iterator
from typing import Annotated, Any, TypedDict, cast

import pytest
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.graph import END, START, MessagesState, StateGraph, add_messages
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, Send

from durathread.db.pool import Pool
from durathread.graphs.registry import Graph
from tests.steps.stepping import Thread

MODES = ["values", "updates", "tasks", "debug", "messages-tuple", "custom"]
Build = StateGraph[Any]


def keeps(left: list[AnyMessage], right: list[AnyMessage]) -> list[AnyMessage]:
    """Reduce as users do: by what LangGraph has, and a rule of their own."""
    return cast(list[AnyMessage], add_messages(cast(Any, left), cast(Any, right)))[-10:]


class Kept(TypedDict):
    messages: Annotated[list[AnyMessage], keeps]


class Added(TypedDict):
    messages: Annotated[list[AnyMessage], operator.add]


def says(*texts: str) -> Any:
    async def node(state: Any) -> Any:
        return {"messages": [AIMessage(text) for text in texts]}

    return node


def line(*nodes: tuple[str, Any], state: Any = MessagesState) -> Build:
    builder = StateGraph(state)
    names = [name for name, _ in nodes]
    for name, node in nodes:
        builder.add_node(name, node)
    for source, target in zip([START, *names], [*names, END], strict=True):
        builder.add_edge(source, target)
    return builder


def commands() -> Build:
    async def go(state: Any) -> Any:
        return Command(update={"messages": [AIMessage("by command")]}, goto="after")

    builder = StateGraph(MessagesState).add_node("go", go, destinations=("after",)).add_node("after", says("after"))
    return builder.add_edge(START, "go").add_edge("after", END)


def sends() -> Build:
    async def work(state: Any) -> Any:
        return {"messages": AIMessage(state["say"])}

    async def plan(state: Any) -> list[Send]:
        return [Send("work", {"say": f"sent {number}"}) for number in range(3)]

    builder = StateGraph(MessagesState).add_node("work", work)
    return builder.add_conditional_edges(START, plan, ["work"]).add_edge("work", END)


@tool
def look(city: str) -> str:
    """Look out of the window."""
    return f"sunny in {city}"


@tool
def note(city: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Note a city."""
    return Command(update={"messages": [ToolMessage(f"noted {city}", tool_call_id=tool_call_id)]})


def tools() -> Build:
    calls: Any = [{"id": name, "name": name, "args": {"city": "Rome"}} for name in ("look", "note")]

    async def ask(state: Any) -> Any:
        return {"messages": [AIMessage("", tool_calls=calls)]}

    return line(("ask", ask), ("tools", ToolNode([look, note])))


def handing_over() -> Build:
    async def hand(state: Any) -> Any:
        return Command(graph=Command.PARENT, goto="other", update={"messages": [AIMessage("handed over")]})

    builder = StateGraph(MessagesState)
    builder.add_node("inner", line(("hand", hand)).compile(), destinations=("other",))
    builder.add_node("other", says("other"))
    return builder.add_edge(START, "inner").add_edge("other", END)


def called() -> Build:
    """A subgraph that only the node that calls it knows."""
    inner = line(("deep", says("deep")), state=Kept).compile()

    async def call(state: Any) -> Any:
        return {"messages": (await inner.ainvoke(state))["messages"][-1:]}

    return line(("call", call))


OWN_REDUCER = "a reducer of the user's"
GRAPHS = {
    "nodes": lambda: line(("a", says("one", "two")), ("b", says("three"))),
    "subgraphs": lambda: line(("outer", line(("inner", says("within"))).compile()), ("last", says("last"))),
    "subgraphs that are called": called,
    "commands": commands,
    "sends": sends,
    "tools": tools,
    "a command to the parent": handing_over,
    OWN_REDUCER: lambda: line(("a", says("one")), ("b", says("two")), state=Kept),
}


def messages(found: Any) -> Iterator[dict[str, Any]]:
    """Find messages, however deep in an event."""
    if isinstance(found, dict):
        if "content" in found and "type" in found and "id" in found:
            yield cast(dict[str, Any], found)
            return
        found = list(cast(dict[str, Any], found).values())
    if isinstance(found, list):
        for each in cast(list[Any], found):
            yield from messages(each)


@pytest.mark.parametrize("modes", [MODES, [*MODES, "events"], ["updates", "tasks"]], ids=["all", "events", "two"])
@pytest.mark.parametrize("name", GRAPHS)
async def test_a_message_has_the_id_of_the_state_in_every_mode(pool: Pool, name: str, modes: list[str]) -> None:
    thread = Thread(pool)
    if name == OWN_REDUCER:
        # Events of LangChain's are not held back for it.
        modes = [mode for mode in modes if mode != "events"]
    given = {"messages": [{"role": "user", "content": "hi", "id": "asked"}]}
    outcome = await thread.stepped(cast(Graph, GRAPHS[name]().compile()), given, stream_mode=modes, subgraphs=True)
    state = {str(message.content): message.id for message in outcome.values["messages"] if message.content}
    seen: dict[str, set[Any]] = {}
    for mode, data in thread.shown:
        if mode == "events" and (data["event"] == "on_tool_end" or data["name"] not in ("LangGraph", *NODES)):
            # What a tool or a part of a node returns is no message of the graph yet.
            continue
        for message in messages(data):
            if message["content"]:
                seen.setdefault(message["content"], set()).add(message["id"])
    assert {content: ids for content, ids in seen.items() if ids != {state[content]}} == {}
    assert set(seen) >= set(state) - {"hi"}


NODES = ("a", "b", "go", "after", "work", "ask", "outer", "last", "other")


async def test_what_a_reducer_leaves_without_an_id_has_none(pool: Pool) -> None:
    thread = Thread(pool)
    given = {"messages": [AIMessage("asked", id="1")]}
    modes = ["updates", "values"]
    outcome = await thread.stepped(cast(Graph, line(("a", says("x")), state=Added).compile()), given, stream_mode=modes)
    assert [message.id for message in outcome.values["messages"]] == ["1", None]
    assert {message["id"] for name, data in thread.shown if name == "updates" for message in messages(data)} == {None}


async def test_an_update_does_not_wait_for_a_slower_sibling(pool: Pool) -> None:
    quick = asyncio.Event()

    async def slow(state: Any) -> Any:
        async with asyncio.timeout(20):
            await quick.wait()
        return {"messages": [AIMessage("slow")]}

    builder = StateGraph(MessagesState).add_node("fast", says("fast")).add_node("slow", slow)
    builder.add_edge(START, "fast").add_edge(START, "slow")
    thread = Thread(pool)

    class Watched(list[Any]):
        def append(self, event: Any) -> None:
            super().append(event)
            if event[0] == "updates":
                quick.set()

    thread.shown = Watched()
    outcome = await thread.stepped(cast(Graph, builder.compile()), {"messages": []}, stream_mode=["updates"])
    found: list[BaseMessage] = outcome.values["messages"]
    assert {message["id"] for _, data in thread.shown for message in messages(data)} == {each.id for each in found}
