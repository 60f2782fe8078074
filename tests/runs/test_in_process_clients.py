"""`get_client()` without a URL inside of graphs: the server's own API, in every worker."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from durathread.embedded.engines import Engines
from tests.api.serving import serving
from tests.runs.support import status_becomes
from tests.stack import Stack

GRAPHS = '''
import asyncio
import operator
import os
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph_sdk import Auth, get_client

# Made before there is a server.
early = get_client()
auth = Auth()


@auth.authenticate
async def authenticate(authorization: str | None):
    if authorization != "let me in":
        raise Auth.exceptions.HTTPException(401, "who are you?")
    return {"identity": "somebody"}


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    found: dict[str, Any]


async def work(state: State) -> State:
    return {"log": ["worked"]}


async def delegate(state: State) -> State:
    """Have a thread of its own worked on, by a client that was made at import and one that is made now."""
    late = get_client()
    thread = (await early.threads.create(metadata={"made": "inside"}))["thread_id"]
    values = await late.runs.wait(thread, "worker", input={"log": ["asked"]})
    read = await early.threads.get_state(thread)
    stateless = await early.runs.wait(None, "worker", input={})
    return {"found": {"thread": thread, "values": values, "read": read["values"], "stateless": stateless}}


async def stream(state: State) -> State:
    """Count how many events come before the watched run may end."""
    client, seen = get_client(), []
    open_gate = os.environ["GATE"]
    async for part in client.runs.stream(None, "gated", input={}, stream_mode="updates"):
        seen.append(part.event)
        if part.event == "updates" and not os.path.exists(open_gate):
            with open(open_gate, "w"):
                pass
    return {"found": {"seen": seen}}


async def before(state: State) -> State:
    return {"log": ["before"]}


async def wait_for_gate(state: State) -> State:
    while not os.path.exists(os.environ["GATE"]):
        await asyncio.sleep(0.02)
    return {"log": ["after"]}


async def remember(state: State) -> State:
    """Use the store, a search, and a request that fails."""
    client = get_client()
    await client.store.put_item(("notes",), "one", {"text": "kept"})
    item = await client.store.get_item(("notes",), "one")
    found = await client.assistants.search(graph_id="worker")
    try:
        await client.threads.get("00000000-0000-7000-8000-000000000000")
    except Exception as error:
        refused = f"{type(error).__name__}"
    return {"found": {"item": item["value"], "graphs": [each["graph_id"] for each in found], "refused": refused}}


async def die(state: State) -> State:
    """Start a run, and take the worker down."""
    await early.runs.create(state["log"][0], "worker", input={}, if_not_exists="create")
    if not os.path.exists(os.environ["GATE"]):
        with open(os.environ["GATE"], "w"):
            os._exit(1)
    return {"log": ["repeated"]}


async def again(state: State, config: RunnableConfig) -> State:
    """Queue another run on the thread that is being worked on."""
    if len(state["log"]) > 2:
        return {"log": ["done"]}
    thread = config["configurable"]["thread_id"]
    run = await early.runs.create(thread, "again", input={"log": ["next"]}, multitask_strategy="enqueue")
    return {"log": [run["status"]]}


def blocking(state: State) -> State:
    """Call from a thread, on a loop that lives no longer than the call."""
    async def call():
        async with get_client() as client:
            return await client.runs.wait(None, "worker", input={"log": ["from a thread"]})

    return {"found": asyncio.run(call())}


def graph(*nodes):
    builder = StateGraph(State)
    builder.add_sequence(nodes)
    builder.add_edge(START, nodes[0].__name__)
    return builder.compile()


worker, delegating, streaming, remembering = graph(work), graph(delegate), graph(stream), graph(remember)
dying = graph(die)
gated, repeating, threaded = graph(before, wait_for_gate), graph(again), graph(blocking)
'''
NAMES = {
    "worker": "worker",
    "delegating": "delegating",
    "streaming": "streaming",
    "remembering": "remembering",
    "gated": "gated",
    "again": "repeating",
    "threaded": "threaded",
}


@pytest.fixture(scope="module")
async def stack(engine_set: Engines, database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A server that lets nobody in from outside without a password."""
    assert database
    folder = tmp_path_factory.mktemp("inside")
    async with serving(
        engine_set,
        folder,
        graphs=GRAPHS,
        named={name: f"./project_graphs.py:{variable}" for name, variable in NAMES.items()},
        auth={"path": "./project_graphs.py:auth"},
        workers=1,
        GATE=str(folder / "gate"),
    ) as found:
        yield found


@pytest.fixture
async def outside(stack: Stack) -> AsyncIterator[LangGraphClient]:
    """A client that knows the password."""
    async with get_client(url=stack.url, headers={"authorization": "let me in"}) as client:
        yield client


async def test_a_node_has_a_thread_worked_on_and_waits_for_it(outside: LangGraphClient) -> None:
    values: Any = await outside.runs.wait(None, "delegating", input={})
    found = values["found"]
    assert found["values"] == found["read"] == {"log": ["asked", "worked"]}
    assert found["stateless"] == {"log": ["worked"]}
    # It is a thread as any other, and its run has been through the queue.
    thread = await outside.threads.get(found["thread"])
    assert thread["metadata"]["made"] == "inside"  # pyright: ignore[reportOptionalSubscript]
    assert [run["status"] for run in await outside.runs.list(found["thread"])] == ["success"]


async def test_a_node_sees_the_events_of_a_run_as_they_happen(outside: LangGraphClient) -> None:
    """The watched run ends only when its watcher has seen its first step."""
    values: Any = await outside.runs.wait(None, "streaming", input={})
    assert values["found"]["seen"] == ["metadata", "updates", "updates", "end"]


async def test_a_node_uses_the_store_and_is_told_of_errors(outside: LangGraphClient) -> None:
    values: Any = await outside.runs.wait(None, "remembering", input={})
    assert values["found"] == {"item": {"text": "kept"}, "graphs": ["worker"], "refused": "NotFoundError"}


async def test_a_node_queues_a_run_on_its_own_thread(outside: LangGraphClient) -> None:
    thread = (await outside.threads.create())["thread_id"]
    await outside.runs.wait(thread, "again", input={"log": ["first"]})
    await status_becomes(outside, thread, "idle")
    assert (await outside.threads.get_state(thread))["values"] == {"log": ["first", "pending", "next", "done"]}
    assert [run["status"] for run in await outside.runs.list(thread)] == ["success", "success"]


async def test_a_client_works_on_a_loop_that_ends_with_the_call(outside: LangGraphClient) -> None:
    values: Any = await outside.runs.wait(None, "threaded", input={})
    assert values["found"] == {"log": ["from a thread", "worked"]}


async def test_what_lets_nodes_in_lets_nobody_else_in(stack: Stack) -> None:
    async with get_client(url=stack.url) as client:
        http = client.http.client
        for path in ("/assistants/search", "/noauth/assistants/search", "//noauth/assistants/search"):
            answer = await http.post(path, json={}, headers={"x-forwarded-prefix": "/noauth", "root_path": "/noauth"})
            assert answer.status_code == 401


async def test_a_run_that_a_node_has_started_outlives_its_worker(
    engine_set: Engines, database: str, tmp_path: Path
) -> None:
    assert database
    named = {name: f"./project_graphs.py:{name}" for name in ("worker", "dying")}
    async with (
        serving(engine_set, tmp_path, graphs=GRAPHS, named=named, workers=1, GATE=str(tmp_path / "gate")) as stack,
        get_client(url=stack.url) as client,
    ):
        other = str(uuid4())
        thread = (await client.threads.create())["thread_id"]
        run = await client.runs.create(thread, "dying", input={"log": [other]})
        assert await stack.processes["worker"].wait() == 1
        # Before there is a worker again: what the node asked for was accepted, as from any client.
        assert [each["status"] for each in await client.runs.list(other)] == ["pending"]
        await stack.start("worker")
        await client.runs.join(thread, run["run_id"])
        await status_becomes(client, other, "idle")
        # The step was repeated, has asked again, and has got what there was.
        assert [each["status"] for each in await client.runs.list(other)] == ["success"]


CIRCLES = '''
import operator
import os
from typing import Annotated, Any, TypedDict


from langchain_core.runnables import RunnableConfig
from langgraph.config import get_config
from langgraph.graph import START, StateGraph
from langgraph.pregel.remote import RemoteGraph
from langgraph_sdk import get_client, get_sync_client


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    how: str
    other: str
    trace: str


def url():
    return get_config()["metadata"]["langgraph_api_url"]


async def inner(state: State) -> State:
    return {"log": ["inner"]}


def thread_of(config):
    return config["configurable"]["thread_id"]


async def itself(state: State, config: RunnableConfig) -> State:
    """Wait for a run that can begin only when this one has ended."""
    how, thread, inside = state["how"], thread_of(config), get_client()
    if how == "remote graph":
        await RemoteGraph("inner", url=url()).ainvoke({"log": []}, config)
    elif how == "remote graph inside":
        await RemoteGraph("inner", client=inside).ainvoke({"log": []}, config)
    elif how == "wait":
        await inside.runs.wait(thread, "inner", input={})
    elif how == "stream":
        async for part in inside.runs.stream(thread, "inner", input={}):
            pass
    elif how == "join":
        run = await inside.runs.create(thread, "inner", input={})
        await inside.runs.join(thread, run["run_id"])
    elif how == "own":
        await inside.runs.join(thread, config["configurable"]["run_id"])
    elif how == "url":
        async with get_client(url=url()) as client:
            await client.runs.wait(thread, "inner", input={})
    elif how == "join by url":
        async with get_client(url=url()) as client:
            run = await client.runs.create(thread, "inner", input={})
            async for part in client.runs.join_stream(thread, run["run_id"]):
                pass
    elif how == "around":
        await inside.runs.wait(None, "back", input={"other": thread})
    return {"log": ["outer"]}


async def back(state: State) -> State:
    """Wait for the thread whose run waits for this one."""
    await get_client().runs.wait(state["other"], "inner", input={})
    return {"log": ["back"]}


def threaded(state: State, config: RunnableConfig) -> State:
    with get_sync_client(url=url()) as client:
        client.runs.wait(thread_of(config), "inner", input={})
    return {"log": ["outer"]}


async def allowed(state: State, config: RunnableConfig) -> State:
    """Wait for what does not wait for us."""
    client = get_client()
    other = await client.threads.create()
    first = await client.runs.wait(other["thread_id"], "inner", input={"log": ["other"]})
    second = await RemoteGraph("inner", url=url()).ainvoke({"log": ["none"]})
    later = await client.runs.create(thread_of(config), "inner", input={})
    return {"log": first["log"] + second["log"]}


async def repeated(state: State) -> State:
    """Ask for runs in several ways, and take the worker down when all were accepted, once."""
    client = get_client()
    made = await client.threads.create()
    asked = [await client.runs.create(made["thread_id"], "inner", input={"log": ["made"]})]
    asked += [await client.runs.create(state["other"], "inner", input={"log": ["alike"]}) for _ in range(2)]
    asked += [await client.runs.create(None, "inner", input={"log": ["batch"]}, on_completion="keep")]
    asked += await client.runs.create_batch(
        [{"assistant_id": "inner", "input": {"log": [n]}, "on_completion": "keep"} for n in ("x", "y")]
    )
    with open(state["trace"], "a") as file:
        file.write(",".join([made["thread_id"], *(run["run_id"] for run in asked)]) + chr(10))
    if open(state["trace"]).read().count(chr(10)) == 1:
        os._exit(1)
    values = [await client.runs.join(run["thread_id"], run["run_id"]) for run in asked]
    return {"log": [str(len(values))]}


def graph(node):
    return StateGraph(State).add_node("node", node).add_edge(START, "node").compile()


graphs = {node.__name__: graph(node) for node in (inner, itself, back, threaded, allowed, repeated)}
globals().update({f"{name}_graph": each for name, each in graphs.items()})
'''
CIRCLING = ("inner", "itself", "back", "threaded", "allowed", "repeated")


@pytest.fixture(scope="module")
async def circles(
    engine_set: Engines, database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LangGraphClient]:
    """A client of a server whose graphs call it."""
    assert database
    named = {name: f"./project_graphs.py:{name}_graph" for name in CIRCLING}
    folder = tmp_path_factory.mktemp("circles")
    async with (
        serving(engine_set, folder, graphs=CIRCLES, named=named, workers=1) as stack,
        get_client(url=stack.url) as client,
    ):
        yield client


WAYS = ["remote graph", "remote graph inside", "wait", "stream", "join", "own", "url", "join by url", "around"]


@pytest.mark.parametrize("how", [*WAYS, "threaded"])
async def test_a_node_that_would_wait_for_its_own_thread_is_refused(circles: LangGraphClient, how: str) -> None:
    thread = (await circles.threads.create())["thread_id"]
    graph = "threaded" if how == "threaded" else "itself"
    run = await circles.runs.create(thread, graph, input={"how": how})
    await circles.runs.join(thread, run["run_id"])
    ended: Any = await circles.runs.get(thread, run["run_id"])
    assert ended["status"] == "error"
    # The thread can be used, and nothing is left to run on it but what was created without waiting.
    await status_becomes(circles, thread, "idle" if how.startswith("join") else "error")
    assert len(await circles.runs.list(thread)) == (2 if how.startswith("join") else 1)
    values: Any = await circles.runs.wait(thread, "inner", input={})
    assert values["log"][-1] == "inner"


async def test_a_node_waits_for_what_does_not_wait_for_it(circles: LangGraphClient) -> None:
    thread = (await circles.threads.create())["thread_id"]
    values: Any = await circles.runs.wait(thread, "allowed", input={})
    assert values["log"] == ["other", "inner", "none", "inner"]
    await status_becomes(circles, thread, "idle")
    assert [run["status"] for run in await circles.runs.list(thread)] == ["success", "success"]


async def test_a_repeated_step_gets_the_runs_and_threads_that_it_got_before(
    engine_set: Engines, database: str, tmp_path: Path
) -> None:
    """Those that it asked for, in whatever way; two that are alike stay two."""
    assert database
    named = {name: f"./project_graphs.py:{name}_graph" for name in ("inner", "repeated")}
    trace, other = tmp_path / "trace", str(uuid4())
    async with (
        serving(engine_set, tmp_path, graphs=CIRCLES, named=named, workers=1) as stack,
        get_client(url=stack.url) as client,
    ):
        await client.threads.create(thread_id=other)
        before = await client.threads.count()
        thread = (await client.threads.create())["thread_id"]
        given: Any = {"other": other, "trace": str(trace)}
        run = await client.runs.create(thread, "repeated", input=given)
        assert await stack.processes["worker"].wait() == 1
        await stack.start("worker")
        assert await client.runs.join(thread, run["run_id"]) == {**given, "log": ["6"]}
        first, second = trace.read_text().splitlines()
        assert first == second
        asked = first.split(",")
        assert len(set(asked)) == 7
        # The thread of the run, and those of its own: one that it made and three of stateless runs.
        assert await client.threads.count() == before + 1 + 4
        assert await client.threads.get_state(other) is not None
        assert (await client.runs.join(other, asked[3])) == {"log": ["alike", "inner", "alike", "inner"]}
        assert len(await client.runs.list(other)) == 2
