"""Users' code that exits, or never ends, in every place where it may: its own run is what it costs."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from durathread.embedded.engines import Engines
from tests.api.serving import serving
from tests.eventually import eventually
from tests.stack import Stack

GRAPHS = """
import argparse
import asyncio
import itertools
import os
import sys
import time
from pathlib import Path
from typing import Any, TypedDict

import click
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

HERE = Path(__file__).parent


class State(TypedDict, total=False):
    how: str
    said: Any


def leave(how: str) -> Any:
    match how:
        case "exit":
            sys.exit(3)
        case "argparse":
            argparse.ArgumentParser().parse_args(["--unknown"])
        case "click":
            click.Command("agent", callback=lambda: None).main(["--help"])
        case "os._exit":
            os._exit(7)
        case "endless thread":
            (HERE / how).touch()
            for _ in itertools.count():
                time.sleep(0.01)
        case "endless state":
            return {"said": itertools.count()}
    return {"said": how}


async def on_the_loop(state: State) -> State:
    if state["how"] == "endless":
        (HERE / "endless").touch()
        async for _ in ticks():
            pass
    return leave(state["how"])


async def ticks():
    while True:
        yield await asyncio.sleep(0)


def in_a_thread(state: State) -> State:
    return leave(state["how"])


def yields(state: State):
    yield {"said": state["how"]}
    while state["how"] == "endless generator":
        (HERE / "endless generator").touch()
        time.sleep(0.01)
        yield {"said": "more"}


@tool
def leaves(how: str) -> str:
    "Leave."
    return leave(how)["said"]


@tool
async def leaves_async(how: str) -> str:
    "Leave."
    return leave(how)["said"]


def calls(name: str) -> Any:
    def ask(state: State) -> Any:
        return {"messages": [AIMessage("", tool_calls=[{"name": name, "args": {"how": "exit"}, "id": "1"}])]}
    return ask


def graph_of(node: Any) -> StateGraph:
    builder = StateGraph(State)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return builder


def agent_of(name: str) -> StateGraph:
    builder = StateGraph(MessagesState)
    builder.add_node("model", calls(name))
    builder.add_node("tools", ToolNode([leaves, leaves_async]))
    builder.add_edge(START, "model")
    builder.add_edge("model", "tools")
    return builder


loop, thread, generator = graph_of(on_the_loop), graph_of(in_a_thread), graph_of(yields)
tool_in_a_thread, tool_on_the_loop = agent_of("leaves"), agent_of("leaves_async")
"""
NAMES = ("loop", "thread", "generator", "tool_in_a_thread", "tool_on_the_loop")


@pytest.fixture(scope="module")
async def stack(engine_set: Engines, database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A server that takes one dead worker for enough."""
    assert database
    named = {name: f"./project_graphs.py:{name}" for name in NAMES}
    folder = tmp_path_factory.mktemp("exits")
    async with serving(
        engine_set, folder, graphs=GRAPHS, named=named, workers=1, BG_JOB_MAX_RETRIES="1", LOG_JSON="true"
    ) as found:
        yield found


@pytest.fixture
async def own(stack: Stack) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=stack.url) as found:
        yield found


async def error_of(own: LangGraphClient, graph: str, how: str) -> Any:
    """Run a graph, and return how it has failed."""
    said: Any = await asyncio.wait_for(own.runs.wait(None, graph, input={"how": how}, raise_error=False), 120)
    return said["__error__"]["error"]


async def works(own: LangGraphClient) -> None:
    """Fail unless the next run succeeds, where the last one has failed."""
    for graph in ("loop", "thread"):
        said: Any = await asyncio.wait_for(own.runs.wait(None, graph, input={"how": "well"}), 60)
        assert said["said"] == "well"


@pytest.mark.parametrize(
    ("graph", "how", "name"),
    [
        ("tool_in_a_thread", "exit", "SystemExit"),
        ("tool_on_the_loop", "exit", "SystemExit"),
        ("loop", "argparse", "SystemExit"),
        ("thread", "argparse", "SystemExit"),
        ("loop", "click", "SystemExit"),
        ("thread", "click", "SystemExit"),
    ],
)
async def test_code_that_exits_fails_its_run(
    stack: Stack, own: LangGraphClient, graph: str, how: str, name: str
) -> None:
    pid = stack.processes["worker"].pid
    assert await error_of(own, graph, how) == name
    await works(own)
    assert (stack.processes["worker"].pid, stack.processes["worker"].returncode) == (pid, None)


@pytest.mark.parametrize(
    ("graph", "how"), [("loop", "endless"), ("thread", "endless thread"), ("generator", "endless generator")]
)
async def test_code_that_never_ends_lets_others_work_and_can_be_cancelled(
    stack: Stack, own: LangGraphClient, graph: str, how: str
) -> None:
    thread_id = str(uuid4())
    run = await own.runs.create(thread_id, graph, input={"how": how}, if_not_exists="create")

    async def begun() -> bool:
        return (stack.logs.parent / how).exists()

    await eventually(begun)
    await works(own)
    await own.runs.cancel(thread_id, run["run_id"], wait=True)
    assert (await own.runs.get(thread_id, run["run_id"]))["status"] == "interrupted"
    said: Any = await asyncio.wait_for(own.runs.wait(thread_id, graph, input={"how": "well"}), 60)
    assert said["said"] == "well"


async def test_a_state_that_never_ends_fails_its_run(own: LangGraphClient) -> None:
    assert await error_of(own, "thread", "endless state")
    await works(own)


async def test_a_thread_that_ends_the_process_costs_its_run_and_a_restart(stack: Stack, own: LangGraphClient) -> None:
    failing = asyncio.create_task(error_of(own, "thread", "os._exit"))
    assert await asyncio.wait_for(stack.processes["worker"].wait(), 60) == 7
    await stack.start("worker")
    assert await failing == "RuntimeError"
    await works(own)
