"""Runs that fail: each says why, to its client, in the log and in Temporal, and harms no other."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from temporalio.client import Client

from durathread.embedded.engines import Engines
from tests.api.serving import serving
from tests.eventually import eventually
from tests.stack import Stack
from tests.workflows.support import closed

GRAPHS = '''
import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import push_message

HERE = Path(__file__).parent


class Odd(BaseException):
    """No ordinary exception."""


class Mute(Exception):
    def __str__(self):
        raise ValueError("no text")


class Shy:
    def __repr__(self):
        raise ValueError("no description")


def leave(how: str) -> None:
    match how:
        case "exit":
            sys.exit(3)
        case "keyboard":
            raise KeyboardInterrupt
        case "odd":
            raise Odd("odd")
        case "cancelled":
            raise asyncio.CancelledError
        case "secret":
            raise OSError("password=hunter2\\nforged line")
        case "mute":
            raise Mute
        case "value":
            raise ValueError("what may be read")
        case "stop":
            asyncio.get_running_loop().stop()
        case "close":
            asyncio.get_running_loop().close()


def reduce(old: list[str], new: list[str]) -> list[str]:
    for name in new:
        leave(name.removeprefix("reduce:") if name.startswith("reduce:") else "")
    return [*old, *new]


def odd_message() -> AIMessage:
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    more = {"set": {1, 2}, "deep": deep, "nan": float("nan"), "\\ud800": 1, "shy": Shy()}
    return AIMessage([{"type": "text", "text": "\\ud800"}], id="odd", additional_kwargs=more)


def message_to_keep() -> AIMessage:
    return AIMessage("\\ud800 content", id="\\ud800id", name="\\udfffname", additional_kwargs={"nan": float("nan"), "set": {1, 2}, "bytes": b"\\xff"})


class State(TypedDict, total=False):
    log: Annotated[list[str], reduce]
    said: list[Any]
    how: str
    where: str


async def first(state: State) -> State:
    if state["where"] == "async":
        leave(state["how"])
    if state["where"] == "reducer":
        return {"log": ["reduce:" + state["how"]]}
    if state["where"] == "custom":
        writer = get_stream_writer()
        endless: list[Any] = []
        endless.append(endless)
        deep: Any = []
        for _ in range(5000):
            deep = [deep]
        for odd in ({"name": "\\ud800x"}, {"\\udfff": 1}, Shy(), {"a": {1, 2}}, endless, deep, float("nan"), 2**100, b"\\xff",
                    {(1, 2): "tuple"}, {"shy": [Shy()]}, object(), {Shy: 1}, "\\x00"):
            writer(odd)
        writer({"last": True})
    if state["where"] == "unkept":
        return {"log": ["first"], "said": [odd_message()]}
    if state["where"] in ("messages", "kept"):
        if state["where"] == "kept":
            return {"log": ["first"], "said": [message_to_keep()]}
        for message in (odd_message(), message_to_keep()):
            push_message(message, state_key=None)
    return {"log": ["first"]}


def second(state: State) -> State:
    if state["where"] == "sync":
        leave(state["how"])
    return {"log": ["second"]}


def route(state: State) -> str:
    if state["where"] == "router":
        leave(state["how"])
    return "second"


builder = StateGraph(State)
builder.add_node("first", first)
builder.add_node("second", second)
builder.add_edge(START, "first")
builder.add_conditional_edges("first", route, ["second"])
builder.add_edge("second", END)


async def waiting(state: State) -> State:
    (HERE / "waiting.begun").touch()
    while not (HERE / "waiting.gate").exists():
        await asyncio.sleep(0.01)
    return {"log": ["waited"]}


patient = StateGraph(State)
patient.add_node("waiting", waiting)
patient.add_edge(START, "waiting")

inner = StateGraph(State)
inner.add_node("deep", lambda state: leave(state["how"]))
inner.add_edge(START, "deep")
outer = StateGraph(State)
outer.add_node("outer", inner.compile())
outer.add_edge(START, "outer")


async def factory(config: dict[str, Any]) -> Any:
    leave(config.get("configurable", {}).get("how", ""))
    return builder


async def endless(config: dict[str, Any]):
    while True:
        yield builder


LONG = "k" * 9000
wide = StateGraph(TypedDict("Wide", {LONG: list}))
wide.add_node("node", lambda state: {LONG: [os.urandom(9000).hex()]})
wide.add_edge(START, "node")
Random = "".join(chr(0x4E00 + number % 20000) for number in range(0, 3_000_000, 997))
keys = StateGraph(TypedDict("Keys", {Random: list}))
keys.add_node("node", lambda state: {Random: ["x"]})
keys.add_edge(START, "node")
'''
NAMES = ("builder", "patient", "outer", "factory", "endless", "keys")
NAMED = {name: f"./project_graphs.py:{name}" for name in NAMES}
KINDS = [
    ("async", "exit", "SystemExit"),
    ("sync", "exit", "SystemExit"),
    ("router", "exit", "SystemExit"),
    ("reducer", "exit", "SystemExit"),
    ("async", "keyboard", "KeyboardInterrupt"),
    ("sync", "keyboard", "KeyboardInterrupt"),
    ("reducer", "keyboard", "KeyboardInterrupt"),
    ("async", "odd", "Odd"),
    ("reducer", "odd", "Odd"),
    ("async", "cancelled", "NodeCancelledError"),
    ("sync", "cancelled", "NodeCancelledError"),
    ("router", "cancelled", "NodeCancelledError"),
    ("async", "stop", "RuntimeError"),
    ("async", "close", "RuntimeError"),
    ("async", "mute", "Mute"),
]


@pytest.fixture(scope="module")
async def stack(engine_set: Engines, database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    assert database
    folder = tmp_path_factory.mktemp("failures")
    async with serving(engine_set, folder, graphs=GRAPHS, named=NAMED, workers=1, LOG_JSON="true") as found:
        yield found


@pytest.fixture
async def own(stack: Stack) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=stack.url) as found:
        yield found


async def outcome(own: LangGraphClient, thread_id: str, graph: str, given: dict[str, Any], **options: Any) -> Any:
    """Run a graph; return its run and what a client that waits is told."""
    run = await own.runs.create(thread_id, graph, input=given, if_not_exists="create", **options)
    said = await asyncio.wait_for(own.runs.join(thread_id, run["run_id"]), 60)
    return await own.runs.get(thread_id, run["run_id"]), said


def reports(stack: Stack, run_id: str) -> list[dict[str, Any]]:
    """List the lines in which the worker reports the failure of a run."""
    found = [json.loads(line) for line in stack.log("worker").splitlines() if line.startswith("{")]
    return [line for line in found if line["event"] == "A run has failed" and line["run_id"] == run_id]


async def test_whatever_a_node_raises_ends_its_own_run_only(stack: Stack, own: LangGraphClient, thread_id: str) -> None:
    folder = stack.logs.parent
    neighbour = await own.threads.create()
    other = await own.runs.create(neighbour["thread_id"], "patient", input={"log": []})

    async def begun() -> bool:
        return (folder / "waiting.begun").exists()

    await eventually(begun)
    for where, how, name in KINDS:
        run, said = await outcome(own, thread_id, "builder", {"log": [], "how": how, "where": where})
        assert run["status"] == "error", (where, how)
        assert said["__error__"]["error"] == name, (where, how)
        [report] = reports(stack, run["run_id"])
        assert (report["error"], report["graph_id"], report["thread_id"]) == (name, "builder", thread_id)
    (folder / "waiting.gate").touch()
    assert "waited" in (await asyncio.wait_for(own.runs.join(neighbour["thread_id"], other["run_id"]), 60))["log"]
    run, said = await outcome(own, thread_id, "builder", {"log": [], "how": "", "where": ""})
    assert run["status"] == "success"


@pytest.mark.parametrize(
    ("how", "name"), [("exit", "SystemExit"), ("odd", "Odd"), ("secret", "OSError"), ("cancelled", "CancelledError")]
)
async def test_a_factory_that_raises_ends_its_run(
    stack: Stack, own: LangGraphClient, thread_id: str, how: str, name: str
) -> None:
    run, said = await outcome(own, thread_id, "factory", {"log": []}, config={"configurable": {"how": how}})
    assert run["status"] == "error"
    assert said["__error__"]["error"] == name
    [report] = reports(stack, run["run_id"])
    assert "in leave" in report["exception"]
    assert (await own.threads.get(thread_id))["status"] == "error"


async def test_a_factory_that_never_stops_yielding_holds_up_no_run(own: LangGraphClient, thread_id: str) -> None:
    run, said = await outcome(own, thread_id, "endless", {"log": [], "how": "", "where": ""})
    assert run["status"] == "success"
    assert said["log"] == ["first", "second"]


async def test_a_failed_run_is_reported_where_its_client_is_told_nothing(
    stack: Stack, own: LangGraphClient, temporal: Client, thread_id: str
) -> None:
    run, said = await outcome(own, thread_id, "builder", {"log": [], "how": "secret", "where": "sync"})
    assert said["__error__"] == {"error": "OSError", "message": "An internal error occurred"}
    [report] = reports(stack, run["run_id"])
    shown = {key: report[key] for key in ("level", "node", "attempt", "error", "message")}
    assert shown == {
        "level": "error",
        "node": "second",
        "attempt": 1,
        "error": "OSError",
        "message": "password=hunter2\nforged line",
    }
    first, *_ = [line for line in report["exception"].splitlines() if line.strip().startswith("File")]
    assert "project_graphs.py" in first
    assert "in leave" in report["exception"]
    await closed(temporal, f"run/{run['run_id']}")
    history = (await temporal.get_workflow_handle(f"run/{run['run_id']}").fetch_history()).to_json()
    results = json.dumps(await _results(temporal, run["run_id"]))
    assert '"OSError"' in results
    assert '"second"' in results
    assert "hunter2" not in history
    assert "hunter2" not in results


async def test_a_text_that_may_be_read_is_in_temporal_too(
    own: LangGraphClient, temporal: Client, thread_id: str
) -> None:
    run, _ = await outcome(own, thread_id, "outer", {"how": "value"})
    await closed(temporal, f"run/{run['run_id']}")
    results = await _results(temporal, run["run_id"])
    assert results[-1]["error"] == "ValueError: what may be read"
    assert results[-1]["node"] == "outer:deep"


async def _results(temporal: Client, run_id: str) -> list[Any]:
    """Read what the activities of a run have returned."""
    history = await temporal.get_workflow_handle(f"run/{run_id}").fetch_history()
    return [
        json.loads(payload.data)
        for event in history.events
        if event.HasField("activity_task_completed_event_attributes")
        for payload in event.activity_task_completed_event_attributes.result.payloads
    ]


async def test_what_the_database_refuses_ends_the_run_with_its_words(own: LangGraphClient, thread_id: str) -> None:
    run, said = await outcome(own, thread_id, "keys", {})
    assert run["status"] == "error"
    assert said["__error__"]["error"] == "NotStored"
    assert "index" in said["__error__"]["message"]


@pytest.mark.parametrize("protocol", [False, True])
@pytest.mark.parametrize("where", ["custom", "messages", "kept"])
async def test_events_that_cannot_be_encoded_say_so_and_the_run_goes_on(
    own: LangGraphClient, thread_id: str, where: str, protocol: bool
) -> None:
    given = {"log": [], "how": "", "where": where}
    said = await protocol_events(own, thread_id, given) if protocol else await streamed_events(own, thread_id, given)
    if where == "custom":
        assert len(said) == 15
        assert "last" in json.dumps(said[-1])
    else:
        assert said
    [run] = await own.runs.list(thread_id)
    assert run["status"] == "success"
    following, _ = await outcome(own, thread_id, "builder", {"log": [], "how": "", "where": ""})
    assert following["status"] == "success"


async def test_a_state_that_cannot_be_kept_ends_its_run_and_says_why(own: LangGraphClient, thread_id: str) -> None:
    run, said = await outcome(own, thread_id, "builder", {"log": [], "how": "", "where": "unkept"})
    assert run["status"] == "error"
    assert "serializable" in said["__error__"]["message"]
    following, _ = await outcome(own, thread_id, "builder", {"log": [], "how": "", "where": ""})
    assert following["status"] == "success"


async def protocol_events(own: LangGraphClient, thread_id: str, given: dict[str, Any]) -> list[Any]:
    """Run the graph in the protocol; return what is said on the channels of its node, to the end of the run."""
    await own.threads.create(thread_id=thread_id)
    events: list[Any] = []
    async with asyncio.timeout(60), own.threads.stream(thread_id, assistant_id="builder") as thread:
        await thread.run.start(input=given)
        async for event in thread.subscribe(["custom", "messages", "lifecycle"]):
            if event["method"] != "lifecycle":
                events.append(event)
            elif not event["params"]["namespace"] and event["params"]["data"]["event"] in ("completed", "failed"):
                break
    return events


async def streamed_events(own: LangGraphClient, thread_id: str, given: dict[str, Any]) -> list[Any]:
    """Run the graph; return what it says in `custom` and `messages`."""
    modes: Any = ["custom", "messages-tuple", "values"]
    async with asyncio.timeout(60):
        parts = [
            part
            async for part in own.runs.stream(
                thread_id, "builder", input=given, stream_mode=modes, if_not_exists="create"
            )
        ]
    assert not [part for part in parts if part.event == "error"]
    return [part.data for part in parts if part.event in ("custom", "messages")]
