"""`client.assistants`."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph.pregel.remote import RemoteGraph
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import BadRequestError, ConflictError, NotFoundError, UnprocessableEntityError

from tests.eventually import eventually
from tests.stack import Stack

AGENT = "fe096781-5601-53d2-b2f6-0d3403f7e9ca"


async def test_each_graph_has_an_assistant_of_a_known_id(client: LangGraphClient) -> None:
    found = await client.assistants.search(metadata={"created_by": "system"}, graph_id="agent")
    assert [item["assistant_id"] for item in found] == [AGENT]
    assert found[0] == await client.assistants.get(AGENT)
    shown: dict[str, Any] = dict(found[0])
    assert shown.pop("created_at")
    assert shown.pop("updated_at")
    assert shown == {
        "assistant_id": AGENT,
        "graph_id": "agent",
        "name": "agent",
        "description": "Three steps.",
        "config": {},
        "context": {},
        "metadata": {"created_by": "system"},
        "version": 1,
    }


async def test_an_assistant_is_created_with_its_first_version(client: LangGraphClient) -> None:
    created = await client.assistants.create(
        "agent", {"tags": ["x"], "configurable": {"tone": "dry"}}, metadata={"a": 1}, name="Nora", description="n"
    )
    assert created["version"] == 1
    assert created["config"] == {"tags": ["x"], "configurable": {"tone": "dry"}}
    assert created["context"] == {"tone": "dry"}
    assert await client.assistants.get(created["assistant_id"]) == created
    versions = await client.assistants.get_versions(created["assistant_id"])
    assert versions == [{key: value for key, value in created.items() if key != "updated_at"}]


async def test_the_context_is_mirrored_into_configurable(client: LangGraphClient) -> None:
    created = await client.assistants.create("agent", context={"tone": "dry"})
    assert created["name"] == "Untitled"
    assert created["config"] == {"configurable": {"tone": "dry"}}


async def test_context_and_configurable_at_once_are_refused(client: LangGraphClient) -> None:
    with pytest.raises(BadRequestError):
        await client.assistants.create("agent", {"configurable": {"a": 1}}, context={"b": 2})


async def test_a_taken_id_is_a_conflict_or_does_nothing(client: LangGraphClient) -> None:
    assistant_id = str(uuid4())
    first = await client.assistants.create("agent", assistant_id=assistant_id, name="first")
    with pytest.raises(ConflictError):
        await client.assistants.create("agent", assistant_id=assistant_id)
    again = await client.assistants.create("agent", assistant_id=assistant_id, name="other", if_exists="do_nothing")
    assert again == first


async def test_an_unknown_graph_is_not_found(client: LangGraphClient) -> None:
    with pytest.raises(NotFoundError):
        await client.assistants.create("nobody")
    with pytest.raises(NotFoundError):
        await client.assistants.search(graph_id="nobody")
    with pytest.raises(NotFoundError):
        await client.assistants.update(AGENT, graph_id="nobody")


async def test_each_update_is_a_version(client: LangGraphClient) -> None:
    created = await client.assistants.create(
        "agent", {"tags": ["x"], "configurable": {"tone": "dry"}}, metadata={"a": 1, "b": {"c": 1}}, name="Nora"
    )
    assistant_id = created["assistant_id"]
    updated = await client.assistants.update(assistant_id, context={"tone": "warm"}, metadata={"b": 2})
    assert updated["version"] == 2
    assert updated["metadata"] == {"a": 1, "b": 2}
    assert updated["config"] == {"configurable": {"tone": "warm"}}
    assert updated["context"] == {"tone": "warm"}
    assert updated["name"] == "Nora"
    assert updated["created_at"] == created["created_at"]
    assert updated["updated_at"] > created["updated_at"]
    emptied = await client.assistants.update(assistant_id, config={})
    assert (emptied["version"], emptied["config"], emptied["context"]) == (3, {}, {})
    versions = await client.assistants.get_versions(assistant_id)
    assert [version["version"] for version in versions] == [3, 2, 1]
    assert [
        version["version"] for version in await client.assistants.get_versions(assistant_id, limit=1, offset=1)
    ] == [2]
    matching = await client.assistants.get_versions(assistant_id, metadata={"b": {"c": 1}})
    assert [version["version"] for version in matching] == [1]
    with pytest.raises(NotFoundError):
        await client.assistants.get_versions(assistant_id, metadata={"no": "such"})


async def test_latest_restores_everything_that_runs_use(client: LangGraphClient) -> None:
    created = await client.assistants.create("configured", context={"tone": "dry"}, metadata={"v": 1}, name="one")
    assistant_id = created["assistant_id"]
    await client.assistants.update(assistant_id, graph_id="agent", context={"tone": "warm"}, name="two")
    restored = await client.assistants.set_latest(assistant_id, 1)
    for field in ("graph_id", "config", "context", "metadata", "name", "version"):
        assert restored[field] == created[field]
    thread = await client.threads.create()
    values: Any = await client.runs.wait(thread["thread_id"], assistant_id, input={"log": []})
    assert values["log"] == ["dry"]
    after = await client.assistants.update(assistant_id, name="three")
    assert after["version"] == 3
    with pytest.raises(NotFoundError):
        await client.assistants.set_latest(assistant_id, 9)


async def test_a_search_pages_sorts_selects_and_filters(client: LangGraphClient) -> None:
    tag = uuid4().hex
    ids: list[str] = []
    for n, name in enumerate(["Äpfel one", "two", "THREE"]):
        made = await client.assistants.create(
            "agent", metadata={"tag": tag, "at": {"n": n, "m": 0}}, name=f"{name} {tag}"
        )
        ids.append(made["assistant_id"])
    found = await client.assistants.search(metadata={"tag": tag})
    assert [item["assistant_id"] for item in found] == ids[::-1]
    assert await client.assistants.count(metadata={"tag": tag}) == 3
    assert [item["assistant_id"] for item in await client.assistants.search(name=f"three {tag[:9]}")] == [ids[2]]
    assert await client.assistants.search(name="%") == []
    assert await client.assistants.count(metadata={"tag": tag, "at": {"n": 1}}) == 1
    assert await client.assistants.count(metadata={"tag": tag}, graph_id="chat") == 0
    by_name = await client.assistants.search(metadata={"tag": tag}, sort_by="name", sort_order="asc", select=["name"])
    assert [list(item) for item in by_name] == [["name"]] * 3
    first = await client.assistants.search(metadata={"tag": tag}, limit=2, response_format="object")
    assert (len(first["assistants"]), first["next"]) == (2, "2")
    rest = await client.assistants.search(metadata={"tag": tag}, limit=2, offset=2, response_format="object")
    assert (len(rest["assistants"]), rest["next"]) == (1, None)


async def test_pages_say_the_true_total(server: Stack, client: LangGraphClient) -> None:
    tag = uuid4().hex
    for _ in range(3):
        await client.assistants.create("agent", metadata={"tag": tag})
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.post("/assistants/search", json={"metadata": {"tag": tag}, "limit": 1})
        assert answer.headers["x-pagination-total"] == "3"
        assert answer.headers["x-pagination-next"] == "1"
        answer = await http.post("/assistants/search", json={"metadata": {"tag": tag}, "limit": 1, "offset": 2})
        assert answer.headers["x-pagination-total"] == "3"
        assert "x-pagination-next" not in answer.headers


async def test_a_deleted_assistant_is_gone_and_its_threads_stay(client: LangGraphClient) -> None:
    assistant_id = (await client.assistants.create("agent"))["assistant_id"]
    thread_id = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread_id, assistant_id, input={"log": []})
    await client.assistants.delete(assistant_id)
    for gone in (client.assistants.get(assistant_id), client.assistants.get_versions(assistant_id)):
        with pytest.raises(NotFoundError):
            await gone
    with pytest.raises(NotFoundError):
        await client.runs.create(thread_id, assistant_id)
    with pytest.raises(NotFoundError):
        await client.assistants.delete(assistant_id)
    assert (await client.threads.get(thread_id))["values"] == {"log": ["a", "b", "c"]}


async def test_an_assistant_takes_its_threads_along_if_asked(client: LangGraphClient) -> None:
    assistant_id = (await client.assistants.create("agent"))["assistant_id"]
    threads = [(await client.threads.create())["thread_id"] for _ in range(2)]
    for thread_id in threads:
        await client.runs.wait(thread_id, assistant_id, input={"log": []})
    await client.assistants.delete(assistant_id, delete_threads=True)
    assert await client.threads.search(ids=threads) == []


async def test_deleting_an_assistant_interrupts_its_runs(client: LangGraphClient, tmp_path: Path) -> None:
    assistant_id = (await client.assistants.create("agent"))["assistant_id"]
    thread_id = (await client.threads.create())["thread_id"]
    trace = tmp_path / "trace"
    slow: Any = {"log": [], "do": {"b": {"trace": str(trace), "until": str(tmp_path / "never")}}}
    running = await client.runs.create(thread_id, assistant_id, input=slow)
    waiting = await client.runs.create(thread_id, assistant_id, input=slow)

    async def begun() -> bool:
        return trace.exists()

    await eventually(begun)
    await client.assistants.delete(assistant_id)
    for run in (running, waiting):
        assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "interrupted"

    async def at_rest() -> bool:
        return (await client.threads.get(thread_id))["status"] != "busy"

    await eventually(at_rest)
    thread: Any = await client.threads.get(thread_id)
    assert thread["values"]["log"] == ["a"]


async def test_the_assistant_of_a_graph_cannot_be_deleted(client: LangGraphClient) -> None:
    with pytest.raises(ConflictError):
        await client.assistants.delete(AGENT)
    assert await client.assistants.get(AGENT)


async def test_a_graph_is_drawn_by_id_and_by_name(client: LangGraphClient) -> None:
    drawn = await client.assistants.get_graph(AGENT)
    assert [node["id"] for node in drawn["nodes"]] == ["__start__", "a", "b", "c", "__end__"]
    assert drawn["nodes"][1] == {"id": "a", "type": "runnable", "data": {"name": "a"}}
    assert drawn["edges"][0] == {"source": "__start__", "target": "a"}
    assert await client.assistants.get_graph("agent") == drawn


async def test_xray_looks_into_subgraphs(client: LangGraphClient) -> None:
    plain = {node["id"] for node in (await client.assistants.get_graph("nested_hitl"))["nodes"]}
    assert "sub" in plain
    for xray in (True, 1):
        deep = {node["id"] for node in (await client.assistants.get_graph("nested_hitl", xray=xray))["nodes"]}
        assert "sub:inner_ask" in deep
    for wrong in (0, -1):
        with pytest.raises(UnprocessableEntityError):
            await client.assistants.get_graph("agent", xray=wrong)


async def test_schemas_describe_a_graph(client: LangGraphClient) -> None:
    configured = (await client.assistants.search(graph_id="configured"))[0]["assistant_id"]
    schemas: Any = await client.assistants.get_schemas(configured)
    assert schemas["graph_id"] == "configured"
    for part in ("input_schema", "output_schema", "state_schema"):
        assert list(schemas[part]["properties"]) == ["log", "seen"]
    for part in ("config_schema", "context_schema"):
        assert schemas[part]["properties"]["tone"]["default"] == "plain"
    plain: Any = await client.assistants.get_schemas(AGENT)
    assert plain["context_schema"] is None


async def test_a_schema_that_cannot_be_made_is_null_and_hinders_nothing(client: LangGraphClient) -> None:
    odd = (await client.assistants.search(graph_id="odd"))[0]["assistant_id"]
    schemas: Any = await client.assistants.get_schemas(odd)
    assert schemas["context_schema"] is None
    assert list(schemas["input_schema"]["properties"]) == ["log", "seen"]
    result: Any = await client.runs.wait(None, "odd", input={}, context={"tone": "loud", "unknown": 1})
    assert result["log"] == ["loud"]


async def test_subgraphs_are_described_by_namespace(client: LangGraphClient) -> None:
    nested = (await client.assistants.search(graph_id="nested_hitl"))[0]["assistant_id"]
    found = await client.assistants.get_subgraphs(nested)
    assert list(found) == ["sub"]
    assert list(found["sub"]) == ["input_schema", "output_schema", "state_schema", "config_schema", "context_schema"]
    assert await client.assistants.get_subgraphs(nested, recurse=True) == found
    assert await client.assistants.get_subgraphs(nested, namespace="sub") == found
    assert await client.assistants.get_subgraphs(nested, namespace="none") == {}
    assert await client.assistants.get_subgraphs(AGENT, recurse=True) == {}


async def test_a_remote_graph_draws_itself(client: LangGraphClient) -> None:
    drawn = await RemoteGraph("agent", client=client).aget_graph()
    assert list(drawn.nodes) == ["__start__", "a", "b", "c", "__end__"]
    assert "a" in drawn.draw_mermaid()
