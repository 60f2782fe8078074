"""What graphs find in their config: docs/graph-config.md says what a probing graph has found, each way that leads to it."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient

from durathread.graphs.registry import system_assistant_id
from tests.eventually import eventually

PAGE = Path(__file__).parents[2] / "docs" / "graph-config.md"
ASSISTANT = str(system_assistant_id("probe"))
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NODES = ("node", "get_config", "tool", "subgraph")
RUN = "threads_create_run"
# Where a node stands: LangGraph's own, and different at each.
POSITION = ("checkpoint_id", "checkpoint_ns", "checkpoint_map", "langgraph_checkpoint_ns")
STEP = ("langgraph_node", "langgraph_path", "langgraph_step", "langgraph_triggers")

Found = dict[str, list[dict[str, Any]]]


async def found_by(client: LangGraphClient, access: Callable[[], Awaitable[Any]], *, until: str) -> Found:
    """Let the probe be opened, and return what it has noted, by place."""
    await forget(client)
    await access()

    async def noted() -> bool:
        return bool((await client.store.search_items(["probe", until]))["items"])

    await eventually(noted)
    items = (await client.store.search_items(["probe"], limit=200))["items"]
    found: Found = {}
    for item in items:
        found.setdefault(item["namespace"][-1], []).append(item["value"])
    return found


async def forget(client: LangGraphClient) -> None:
    """Delete what earlier probes have noted."""
    for item in (await client.store.search_items(["probe"], limit=1000))["items"]:
        await client.store.delete_item(item["namespace"], item["key"])


def shown(key: str, value: Any) -> str:
    """Write a value as the page does: what differs from run to run by what it is."""
    if isinstance(value, str) and ID.fullmatch(value):
        return "its id"
    if key.endswith("_version"):
        return "a version"
    if key == "langgraph_api_url":
        return "a URL"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {shown(name, item)}" for name, item in sorted(value.items())) + "}"
    return f"`{value!r}`"


def part(places: list[dict[str, Any]], name: str) -> dict[str, str]:
    """Return the one thing that places have as `configurable` or `metadata`, without where they stand."""
    seen = [
        {key: shown(key, value) for key, value in place[name].items() if key not in (*POSITION, *STEP)}
        for place in places
    ]
    assert all(each == seen[0] for each in seen), seen
    return seen[0]


def table(part_name: str, columns: dict[str, dict[str, str]]) -> str:
    """Write a table of the page: a row for each key, a column for each place."""
    keys = sorted({key for column in columns.values() for key in column})
    rows = [[f"`{key}`", *(column.get(key, "") for column in columns.values())] for key in keys]
    lines = [[f"`{part_name}`", *columns], ["---"] * (len(columns) + 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def require(text: str) -> None:
    """Find a table on the page."""
    assert text in PAGE.read_text(), f"docs/graph-config.md should say:\n\n{text}\n"


def ways(client: LangGraphClient, thread: str) -> dict[str, Callable[[], Awaitable[Any]]]:
    """List the ways in that lead to a run, by what the page calls them."""

    async def stream() -> None:
        async for _ in client.runs.stream(thread, "probe", input={}):
            pass

    async def create() -> None:
        run = await client.runs.create(thread, "probe", input={})
        await client.runs.join(thread, run["run_id"])

    async def protocol() -> None:
        params = {"assistant_id": "probe", "input": {}}
        answer: Any = await client.http.post(
            f"/threads/{thread}/commands", json={"id": 1, "method": "run.start", "params": params}
        )
        await client.runs.join(thread, answer["result"]["run_id"])

    async def cron() -> None:
        made: Any = await client.crons.create_for_thread(thread, "probe", schedule="* * * * * *", input={})

        async def fired() -> bool:
            return bool((await client.store.search_items(["probe", "subgraph"]))["items"])

        await eventually(fired)
        await client.crons.delete(made["cron_id"])

    return {
        "create": create,
        "wait": lambda: client.runs.wait(thread, "probe", input={}),
        "stream": stream,
        "stateless": lambda: client.runs.wait(None, "probe", input={}),
        "run.start": protocol,
        "cron": cron,
    }


async def test_a_run_finds_the_same_keys_wherever_its_code_looks_and_whichever_way_it_came(
    client: LangGraphClient,
) -> None:
    """Two keys tell by which way: `cron_id`, and `langgraph_request_id`, which a cron does not have."""
    thread = (await client.threads.create())["thread_id"]
    configurable: dict[str, dict[str, str]] = {}
    metadata: dict[str, dict[str, str]] = {}
    for name, access in ways(client, thread).items():
        found = await found_by(client, access, until="subgraph")
        places = [each for place in (RUN, *NODES) for each in found[place]]
        configurable[name] = part(places, "configurable")
        metadata[name] = part(places, "metadata")
        assert {each["recursion_limit"] for each in found[RUN]} == {10011}
        assert all(each["context"] is None for each in places)
        for each in (each for place in NODES for each in found[place]):
            assert each["server_info"] == {"assistant_id": ASSISTANT, "graph_id": "probe", "user": None}
        callbacks = [{**each, "configurable": {}} for each in found["callback"]]
        assert metadata[name].items() <= part(callbacks, "metadata").items()
    require(table("configurable", configurable))
    require(table("metadata", metadata))


async def test_a_factory_finds_whom_it_is_asked_by_and_whether_nodes_will_run(client: LangGraphClient) -> None:
    """A thread is read and updated, an assistant described and drawn."""
    thread = (await client.threads.create(graph_id="probe"))["thread_id"]
    accesses: dict[str, tuple[str, Callable[[], Awaitable[Any]]]] = {
        "state read": ("threads_read", lambda: client.threads.get_state(thread)),
        "state updated": (
            "threads_update",
            lambda: client.threads.update_state(thread, {"log": ["in"]}, as_node="node"),
        ),
        "schemas": ("assistants_read", lambda: client.assistants.get_schemas(ASSISTANT)),
        "drawing": ("assistants_read", lambda: client.assistants.get_graph(ASSISTANT)),
    }
    configurable: dict[str, dict[str, str]] = {}
    metadata: dict[str, dict[str, str]] = {}
    for name, (why, access) in accesses.items():
        found = await found_by(client, access, until=why)
        configurable[name] = part(found[why], "configurable")
        metadata[name] = part(found[why], "metadata")
        assert {each["recursion_limit"] for each in found[why]} == {10011}
        assert all(each["context"] is None and each["user"] is None for each in found[why])
    require(table("configurable", configurable))
    require(table("metadata", metadata))


async def test_what_an_assistant_is_configured_with_is_found_in_context_and_configurable(
    client: LangGraphClient,
) -> None:
    """A key that a client sends wins over the server's default for nobody; one that only the server knows does not."""
    said = {"model": "small", "user_id": "ann", "langgraph_auth_user_id": "forged", "__is_for_execution__": False}
    config: Any = {"configurable": said, "tags": ["mine"], "metadata": {"project": "p", "langgraph_plan": "forged"}}
    assistant = await client.assistants.create("probe", config=config)
    found = await found_by(
        client, lambda: client.runs.wait(None, assistant["assistant_id"], input={}, config=config), until="subgraph"
    )
    for each in (each for place in (RUN, *NODES) for each in found[place]):
        assert each["context"] == {"model": "small", "user_id": "ann"}
        wanted = {"model": "small", "user_id": "ann", "langgraph_auth_user_id": "", "__is_for_execution__": True}
        assert wanted.items() <= each["configurable"].items()
        assert (each["metadata"]["project"], each["metadata"]["langgraph_plan"]) == ("p", "open")
        assert "mine" in each["tags"]
    await client.assistants.delete(assistant["assistant_id"])


@pytest.mark.parametrize("name", ["a", "b"])
async def test_a_factory_may_bind_its_config_to_the_graph(client: LangGraphClient, name: str) -> None:
    """As many do. A run from an earlier checkpoint ends where it stands, not where it began."""
    thread = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread, "bound", input={"log": ["first"]})
    history: Any = await client.threads.get_history(thread, limit=10)
    early = next(state for state in history if state["next"] == ["b"])
    for _ in range(2):
        values: Any = await client.runs.wait(
            thread, "bound", input=None, checkpoint_id=early["checkpoint"]["checkpoint_id"], interrupt_after=[name]
        )
        assert values["log"] == ["first", "a", "b"]
    state: Any = await client.threads.get_state(thread)
    assert (state["values"]["log"], state["next"]) == (["first", "a", "b"], [])


async def test_a_factory_that_fails_fails_the_run_in_its_own_words(client: LangGraphClient) -> None:
    """At once, with its class and text, as any code of users does; the thread keeps what it shows, and can be used."""
    thread = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread, "bound", input={"log": ["first"]})
    config: Any = {"configurable": {"refuse": "no such tenant"}}
    failed: Any = await client.runs.wait(thread, "bound", input={"log": ["in"]}, config=config, raise_error=False)
    assert failed["__error__"] == {"error": "ValueError", "message": "no such tenant"}
    run = (await client.runs.list(thread, limit=1))[0]
    shown = await client.threads.get(thread)
    assert (run["status"], shown["status"]) == ("error", "error")
    values: Any = shown["values"]
    assert values["log"] == ["first", "a", "b"]
    again: Any = await client.runs.wait(thread, "bound", input={"log": ["again"]})
    assert again["log"] == ["first", "a", "b", "again", "a", "b"]
