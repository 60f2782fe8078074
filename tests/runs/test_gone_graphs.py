"""What becomes of the runs, threads and assistants of a graph that langgraph.json does not name any more."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError

from durathread.embedded.engines import Engines
from tests.api.serving import serving
from tests.runs.support import status_becomes

GRAPHS = """
import operator
from typing import Annotated, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import interrupt


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


def ask(state):
    return {"log": [interrupt("which?")]}


def graph(node):
    return StateGraph(State).add_node("node", node).add_edge(START, "node").compile()


old, new = graph(ask), graph(lambda state: {"log": ["new"]})
"""
SOURCES = {name: f"./project_graphs.py:{name}" for name in ("old", "new")}
GONE = "Graph 'old' not found: it is not in langgraph.json. Graphs: new"


async def refusal(work: Any) -> str:
    with pytest.raises(NotFoundError) as refused:
        await work
    return str(refused.value.body["detail"])  # pyright: ignore[reportIndexIssue, reportOptionalSubscript]


async def test_a_graph_that_is_gone_is_named_wherever_it_is_needed(
    engine_set: Engines, database: str, tmp_path: Path
) -> None:
    assert database
    async with (
        serving(engine_set, tmp_path, graphs=GRAPHS, named=SOURCES, workers=1) as stack,
        get_client(url=stack.url) as client,
    ):
        asked = (await client.threads.create())["thread_id"]
        await client.runs.wait(asked, "old", input={"log": ["in"]})
        assistant = (await client.assistants.create("old"))["assistant_id"]
        assert await stack.stop("worker") == 0
        pending = await client.runs.create(str(uuid4()), "old", input={"log": []}, if_not_exists="create")
        answered = await client.runs.create(asked, "old", command={"resume": "this"})
        stateless = await client.runs.create(None, "old", input={"log": []}, on_completion="keep")
        await stack.stop("api")
        config = tmp_path / "langgraph.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "graphs": {"new": SOURCES["new"]}}))
        await stack.start("api")
        await stack.start("worker")
        await stack.ready()
        for run in (pending, answered, stateless):
            ended: Any = await client.runs.join(run["thread_id"], run["run_id"])
            assert ended == {"__error__": {"error": "NotFound", "message": GONE}}
            assert (await client.runs.get(run["thread_id"], run["run_id"]))["status"] == "error"
            assert (await client.threads.get(run["thread_id"]))["status"] == "error"
        assert GONE in stack.log("worker")
        await reads(client, asked, assistant)
        # The thread is not lost: another graph goes on with it.
        values: Any = await client.runs.wait(pending["thread_id"], "new", input={"log": ["in"]})
        assert values["log"][-1] == "new"
        await status_becomes(client, pending["thread_id"], "idle")


async def reads(client: LangGraphClient, thread_id: str, assistant: str) -> None:
    """Look at a thread and an assistant of the graph."""
    for work in (
        lambda: client.threads.get_state(thread_id),
        lambda: client.threads.get_history(thread_id),
        lambda: client.threads.update_state(thread_id, {"log": ["more"]}),
        lambda: client.assistants.get_graph(assistant),
        lambda: client.assistants.get_schemas(assistant),
        lambda: client.runs.create(thread_id, assistant, input={}),
    ):
        said = await refusal(work())
        assert said.startswith("Graph 'old' ")
        assert "not found" in said
        assert said.endswith("Graphs: new")
    # What is stored of both is shown.
    assert (await client.assistants.get(assistant))["graph_id"] == "old"
    assert (await client.threads.get(thread_id))["values"] is not None
    assert [run["status"] for run in await client.runs.list(thread_id)] == ["error", "success"]


async def test_the_configs_of_the_graphs_own_assistants_come_from_the_environment(
    engine_set: Engines, database: str, tmp_path: Path
) -> None:
    assert database
    given = {"new": {"configurable": {"model": "small"}, "tags": ["ours"]}}
    async with (
        serving(
            engine_set, tmp_path, graphs=GRAPHS, named={"new": SOURCES["new"]}, LANGGRAPH_CONFIG=json.dumps(given)
        ) as stack,
        get_client(url=stack.url) as client,
    ):
        [found] = await client.assistants.search(graph_id="new", metadata={"created_by": "system"})
        assert found["config"] == given["new"]
        versions = await client.assistants.get_versions(found["assistant_id"])
        assert versions[-1]["config"] == given["new"]
        stack.environment = {**stack.environment, "LANGGRAPH_CONFIG": '{"new": {"tags": ["later"]}}'}
        await stack.stop("api")
        await stack.start("api")
        await stack.ready()
        assert (await client.assistants.get(found["assistant_id"]))["config"] == {"tags": ["later"]}
