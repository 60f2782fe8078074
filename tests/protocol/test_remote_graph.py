"""`RemoteGraph` of LangGraph: a graph on this server, used as if it were here."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.pregel.remote import RemoteException, RemoteGraph
from langgraph.types import Command
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import LangGraphClient

from tests.protocol.support import PATIENCE
from tests.served.human import State
from tests.stack import Stack

QUESTION: Any = {"messages": [{"role": "user", "content": "one two"}]}


def config_of(thread_id: str) -> Any:
    return {"configurable": {"thread_id": thread_id}}


Remote = Callable[[str], RemoteGraph]


@pytest.fixture
async def remote(server: Stack, client: LangGraphClient) -> AsyncIterator[Remote]:
    """Build graphs with clients that are closed again: their own are not."""
    with get_sync_client(url=server.url) as sync_client:
        yield lambda name: RemoteGraph(name, client=client, sync_client=sync_client)


@pytest.fixture
def agent(remote: Remote) -> RemoteGraph:
    return remote("agent")


async def test_it_is_invoked(agent: RemoteGraph) -> None:
    expected = ["in", "a", "b", "c"]
    assert (await agent.ainvoke({"log": ["in"]}))["log"] == expected
    found: Any = await asyncio.to_thread(agent.invoke, {"log": ["in"]})
    assert found["log"] == expected


async def test_it_streams(agent: RemoteGraph, thread_id: str) -> None:
    stream: Any = agent.astream({"log": ["in"]}, config_of(thread_id), stream_mode=["values", "updates"])
    parts = [part async for part in stream]
    assert [part.event for part in parts] == ["values", *["updates", "values"] * 3]
    assert parts[-1].data["log"] == ["in", "a", "b", "c"]


async def test_its_messages_come_token_by_token(remote: Remote) -> None:
    stream: Any = remote("chat").astream(QUESTION, stream_mode="messages")
    assert [chunk["content"] async for chunk, _ in stream][:2] == ["one ", "two "]


async def test_its_failure_is_raised(agent: RemoteGraph) -> None:
    with pytest.raises(RemoteException, match="boom"):
        await agent.ainvoke({"log": ["in"], "do": {"b": {"fail": "boom"}}})


async def test_its_state_is_read_and_written(agent: RemoteGraph, thread_id: str) -> None:
    config = config_of(thread_id)
    await agent.ainvoke({"log": ["in"]}, config)
    state = await agent.aget_state(config)
    assert state.values["log"] == ["in", "a", "b", "c"]
    history = [snapshot async for snapshot in agent.aget_state_history(config)]
    assert [snapshot.next for snapshot in history] == [(), ("c",), ("b",), ("a",), ("__start__",)]
    written = await agent.aupdate_state(config, {"log": ["more"]}, as_node="c")
    assert written.get("configurable", {})["checkpoint_id"]
    assert (await agent.aget_state(config)).values["log"][-1] == "more"


async def test_it_asks_and_is_answered(remote: Remote, thread_id: str) -> None:
    graph, config = remote("hitl"), config_of(thread_id)
    asked = await graph.ainvoke({"log": ["in"]}, config)
    assert asked["__interrupt__"][0]["value"] == "ask?"
    assert (await graph.ainvoke(Command(resume="yes"), config))["log"] == ["in", "ask=yes", "after"]


def around(remote: Remote, name: str) -> Any:
    """Build a graph whose only node is a graph on the server."""
    outer = StateGraph(State)
    outer.add_node("remote", remote(name))
    outer.add_edge(START, "remote")
    outer.add_edge("remote", END)
    return outer.compile(checkpointer=InMemorySaver())


async def test_a_command_that_says_nothing_does_nothing(agent: RemoteGraph, thread_id: str) -> None:
    await agent.ainvoke({"log": ["in"]}, config_of(thread_id))
    assert (await agent.ainvoke(Command(), config_of(thread_id)))["log"] == ["in", "a", "b", "c"]


async def test_it_is_a_node_of_another_graph(remote: Remote, thread_id: str) -> None:
    stream = around(remote, "agent").astream(
        {"log": ["in"]}, config_of(thread_id), stream_mode=["updates"], subgraphs=True
    )
    parts = [(namespace[0].partition(":")[0] if namespace else "", data) async for namespace, _, data in stream]
    assert [next(iter(data)) for where, data in parts if where == "remote"] == ["a", "b", "c"]
    assert parts[-1][1]["remote"]["log"] == ["in", "a", "b", "c"]


async def log_of(client: LangGraphClient, thread_id: str) -> list[str]:
    """Read the state of the graph on the server."""
    state: Any = await client.threads.get_state(thread_id)
    return state["values"]["log"]


async def test_its_question_is_asked_and_answered_through_the_graph_around_it(
    remote: Remote, thread_id: str, client: LangGraphClient
) -> None:
    graph, config = around(remote, "hitl"), config_of(thread_id)
    asked = await graph.ainvoke({"log": ["in"]}, config)
    (question,) = asked["__interrupt__"]
    assert question.value == "ask?"
    answered = await graph.ainvoke(Command(resume={question.id: "yes"}), config)
    assert await log_of(client, thread_id) == ["in", "ask=yes", "after"]
    assert answered["log"] == ["in", "in", "ask=yes", "after"]
    assert "__interrupt__" not in answered


async def test_an_answer_that_names_no_question_does_not_reach_it_and_it_asks_again(
    remote: Remote, thread_id: str, client: LangGraphClient
) -> None:
    graph, config = around(remote, "hitl"), config_of(thread_id)
    asked = await graph.ainvoke({"log": ["in"]}, config)
    again = await graph.ainvoke(Command(resume="yes"), config)
    assert again["__interrupt__"] == asked["__interrupt__"]
    assert await log_of(client, thread_id) == ["in"]


async def test_a_new_turn_of_the_graph_around_it_is_a_new_run(
    remote: Remote, thread_id: str, client: LangGraphClient
) -> None:
    graph, config = around(remote, "agent"), config_of(thread_id)
    await graph.ainvoke({"log": ["first"]}, config)
    await graph.ainvoke({"log": ["second"]}, config)
    # At a breakpoint before the node the graph around it resumes, but the node has nothing to go on with.
    await graph.ainvoke({"log": ["third"]}, config, interrupt_before=["remote"])
    await graph.ainvoke(None, config)
    inputs = await client.threads.get_history(thread_id, limit=100, metadata={"source": "input"})
    assert len(inputs) == 3
    log = await log_of(client, thread_id)
    assert log[-3:] == ["a", "b", "c"]
    assert {"first", "second", "third"} < set(log)


async def test_it_speaks_the_streaming_protocol(remote: Remote, thread_id: str) -> None:
    graph: Any = remote("chat")
    async with (
        asyncio.timeout(PATIENCE),
        await graph.astream_events(QUESTION, config_of(thread_id), version="v3") as run,
    ):
        (message,) = [message async for message in run.messages]
        assert str(await message.text) == "one two "
        output: Any = await run.output()
    assert output["messages"][-1]["content"] == "one two "


async def test_it_speaks_the_streaming_protocol_without_async(remote: Remote) -> None:
    def use() -> tuple[list[str], Any]:
        graph: Any = remote("chat")
        with graph.stream_events(QUESTION, version="v3") as run:
            return [str(message.text) for message in run.messages], run.output

    texts, output = await asyncio.wait_for(asyncio.to_thread(use), PATIENCE)
    assert texts == ["one two "]
    assert output["messages"][-1]["content"] == "one two "
