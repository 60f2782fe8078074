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
        # The step was repeated, and has asked again.
        assert [each["status"] for each in await client.runs.list(other)] == ["success", "success"]
