"""Every event, answer and code is what `langchain_protocol` says it is, over SSE and over a WebSocket."""

import asyncio
import functools
import json
from typing import Any

import langchain_protocol as protocol
import pytest
from langgraph_sdk.client import LangGraphClient
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict
from websockets.asyncio.client import connect

from tests.protocol.support import ALL, PATIENCE, Event, command, data_of, is_root, run_start, watching
from tests.served.rich import CITATION, USAGE
from tests.stack import Stack


class ToolMessageStart(TypedDict):
    """A result of a tool as a message: the one that clients read and the package's types leave out."""

    event: Any
    role: Any
    id: str
    tool_call_id: str


DATA: dict[str, Any] = {
    "lifecycle": protocol.LifecycleData,
    "messages": protocol.MessagesData | ToolMessageStart,
    "tools": protocol.ToolsData,
    "input.requested": protocol.InputRequestedData,
    "values": dict[str, Any],
    "updates": protocol.UpdatesData,
    "checkpoints": protocol.Checkpoint,
    "custom": protocol.CustomData,
    "tasks": dict[str, Any],
}


def asked(content: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


def valid(result: Any, answer: Any) -> Any:
    """Validate an answer that a command was carried out, and return what it says."""
    TypeAdapter(protocol.CommandResponse).validate_python(answer, strict=True)
    return TypeAdapter[Any](result).validate_python(answer["result"], strict=True)


def check(event: Event) -> None:
    """Validate an event, strictly: no number for a text."""
    TypeAdapter(protocol.Event).validate_python(event, strict=True)
    adapter = TypeAdapter[Any](DATA[event["method"]])
    try:
        adapter.validate_python(event["params"]["data"], strict=True)
    except ValidationError as error:
        raise AssertionError(f"{event['method']} {event['params']['data']}") from error
    TypeAdapter(protocol.Namespace).validate_python(event["params"]["namespace"], strict=True)
    TypeAdapter(protocol.Timestamp).validate_python(event["params"]["timestamp"], strict=True)


async def finished(server: Stack, thread_id: str, word: str) -> list[Event]:
    """Run the graph that does everything, answer its questions, and return all that was shown."""
    async with watching(server.url, thread_id) as watch:
        await run_start(server.url, thread_id, "rich", input=asked(word))
        questions = data_of(await watch.ended(), "input.requested")
        responses = [{"interrupt_id": each["interrupt_id"], "namespace": [], "response": "yes"} for each in questions]
        assert len(responses) == 2
        await command(server.url, thread_id, "input.respond", responses=responses)
        return await watch.ended()


@pytest.mark.parametrize(("word", "ending"), [("fine", "completed"), ("fail", "failed")])
async def test_a_run_that_does_everything(server: Stack, thread_id: str, word: str, ending: str) -> None:
    events = await finished(server, thread_id, word)
    for event in events:
        check(event)
    assert {event["method"] for event in events} == set(DATA) - {"tools"}
    assert is_root(events[-1], ending)
    # Each update once, although the step is repeated with the answers.
    nodes = [
        (*event["params"]["namespace"], event["params"]["node"]) for event in events if event["method"] == "updates"
    ]
    root = [node for node, *inner in nodes if not inner]
    rest = ["break", "gather"] if word == "fine" else []
    assert sorted(root) == sorted(["compose", "left", "right", "sent", "sent", *rest])
    # What has begun ends.
    graphs = [
        (tuple(event["params"]["namespace"]), event["params"]["data"]["event"])
        for event in events[:-1]
        if event["method"] == "lifecycle"
    ]
    for name, last in (("left", "completed"), ("right", "completed"), ("break", ending)):
        assert [said for namespace, said in graphs if namespace and namespace[0].startswith(name)][-1] == last
    assert data_of(events, "lifecycle")[-1].get("error") == ("as asked" if word == "fail" else None)


async def test_blocks_of_every_kind(server: Stack, thread_id: str) -> None:
    events = await finished(server, thread_id, "fine")
    contents = [data["content"] for data in data_of(events, "messages", []) if data["event"] == "content-block-finish"]
    assert [content["type"] for content in contents[:8]] == [
        "reasoning",
        "text",
        "image",
        "server_tool_call",
        "server_tool_result",
        "non_standard",
        "tool_call",
        "invalid_tool_call",
    ]
    assert contents[1]["annotations"] == [CITATION]
    assert contents[3]["args"] == {"q": "x"}
    assert contents[7]["args"] == '{"at": '
    (usage,) = [data["usage"] for data in data_of(events, "messages") if "usage" in data]
    assert usage == USAGE


async def test_a_socket_says_the_same_as_a_stream(server: Stack, thread_id: str) -> None:
    events = await finished(server, thread_id, "fine")
    address = f"{server.url.replace('http', 'ws', 1)}/threads/{thread_id}/stream/events"
    async with connect(address) as socket, asyncio.timeout(PATIENCE):
        subscribe = {"id": 1, "method": "subscription.subscribe", "params": {"channels": ALL}}
        await socket.send(json.dumps(subscribe))
        answer = json.loads(await socket.recv())
        assert [json.loads(await socket.recv()) for _ in events] == events
    assert valid(protocol.SubscribeResult, answer)["replayed_events"] == len(events)


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
@pytest.mark.parametrize(("graph", "content"), [("toolbox", "wait Rome"), ("stages", "slowly " * 40)])
async def test_a_run_that_is_cut(
    server: Stack, thread_id: str, client: LangGraphClient, action: Any, graph: str, content: str
) -> None:
    async with watching(server.url, thread_id) as watch:
        run_id = await run_start(server.url, thread_id, graph, input=asked(content))
        started = {"toolbox": "tool-started", "stages": "content-block-delta"}[graph]
        await watch.until(lambda event: event["params"]["data"].get("event") == started)
        await client.runs.cancel(thread_id, run_id, action=action)
        for event in await watch.ended():
            check(event)


async def test_a_fork(server: Stack, thread_id: str) -> None:
    async with watching(server.url, thread_id) as watch:
        for word in ("one", "two"):
            await run_start(server.url, thread_id, "chat", input=asked(word))
            await watch.ended()
        found = (await command(server.url, thread_id, "state.listCheckpoints"))["result"]["checkpoints"]
        (after_one,) = [item["id"] for item in found if item["step"] == 1]
        before = len(watch.events)
        config = {"configurable": {"checkpoint_id": after_one}}
        await run_start(server.url, thread_id, "chat", input=asked("TWO"), config=config)
        events = (await watch.ended())[before:]
    for event in events:
        check(event)
    assert len({event["event_id"] for event in events}) == len(events)
    told = [event for event in events if event["method"] in ("values", "checkpoints")]
    # What the thread has now goes ahead of each checkpoint, alone: readers forget then what it has not.
    shapes = [
        [message["content"] for message in event["params"]["data"]["messages"]]
        if event["method"] == "values"
        else event["params"]["data"]["source"]
        for event in told
    ]
    asked_again, answered = ["one", "one ", "TWO"], ["one", "one ", "TWO", "TWO "]
    assert shapes == [asked_again, "input", "loop", asked_again, answered, "loop", answered]


async def test_every_answer(server: Stack, thread_id: str) -> None:
    send = functools.partial(command, server.url, thread_id)
    valid(protocol.RunResult, await send("run.start", assistant_id="both", input={"log": []}))
    async with watching(server.url, thread_id) as watch:
        questions = data_of(await watch.ended(), "input.requested")
    tree = valid(protocol.AgentResult, await send("agent.getTree"))
    assert tree["tree"]["status"] == "interrupted"
    for question in questions:
        respond = {"namespace": [], "interrupt_id": question["interrupt_id"], "response": "yes"}
        assert valid(protocol.EmptyResult, await send("input.respond", **respond)) == {}
    assert valid(protocol.StateGetResult, await send("state.get", namespace=[]))["values"]
    found = valid(protocol.ListCheckpointsResult, await send("state.listCheckpoints", limit=1))
    (checkpoint,) = found["checkpoints"]
    valid(protocol.StateForkResult, await send("state.fork", checkpoint_id=checkpoint["id"]))
    message = {"role": "user", "content": "x"}
    assert valid(protocol.EmptyResult, await send("input.inject", namespace=[], message=message)) == {}


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("run.start", {}, "invalid_argument"),
        ("run.stop", {}, "unknown_command"),
        ("input.respond", {"namespace": [], "interrupt_id": "x", "response": 1}, "no_such_run"),
        ("input.inject", {"namespace": ["a"], "message": {"role": "user", "content": ""}}, "no_such_namespace"),
        ("agent.getTree", {}, "no_such_run"),
        ("state.get", {"namespace": ["a"]}, "no_such_namespace"),
        ("state.fork", {"checkpoint_id": "x"}, "no_such_checkpoint"),
        ("subscription.unsubscribe", {"subscription_id": "x"}, "not_supported"),
    ],
)
async def test_every_refusal(server: Stack, thread_id: str, method: str, params: Any, code: str) -> None:
    answer = TypeAdapter(protocol.ErrorResponse).validate_python(
        await command(server.url, thread_id, method, **params), strict=True
    )
    assert (answer["error"], answer["id"]) == (code, 7)
    assert answer["message"]
