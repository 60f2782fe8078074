"""`client.threads`: states, histories and updates."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.pregel.remote import RemoteGraph
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import BadRequestError, ConflictError, NotFoundError, UnprocessableEntityError
from temporalio.client import Client

from durathread.temporal.connection import thread_workflow_id
from tests.eventually import eventually
from tests.stack import Stack


async def ran(client: LangGraphClient, graph: str, **values: Any) -> str:
    """Run a graph on a new thread, and return the thread's id."""
    thread_id = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread_id, graph, input={"log": ["in"], **values}, raise_error=False)
    return thread_id


async def state_of(client: LangGraphClient, thread_id: str, **kwargs: Any) -> dict[str, Any]:
    """Read a state."""
    return dict(await client.threads.get_state(thread_id, **kwargs))


async def history_of(client: LangGraphClient, thread_id: str, **kwargs: Any) -> list[dict[str, Any]]:
    """Read a history."""
    return [dict(state) for state in await client.threads.get_history(thread_id, **kwargs)]


@pytest.mark.parametrize("graph_id", [None, "agent"])
async def test_a_fresh_thread_has_an_empty_state(client: LangGraphClient, graph_id: str | None) -> None:
    thread_id = (await client.threads.create(graph_id=graph_id))["thread_id"]
    assert await state_of(client, thread_id) == {
        "values": {},
        "next": [],
        "tasks": [],
        "metadata": None,
        "created_at": None,
        "checkpoint": None,
        "parent_checkpoint": None,
        "interrupts": [],
        "checkpoint_id": None,
        "parent_checkpoint_id": None,
    }
    assert await history_of(client, thread_id) == []


async def test_a_state_names_its_checkpoint_and_its_parent(client: LangGraphClient) -> None:
    thread_id = await ran(client, "agent")
    latest, before = (await history_of(client, thread_id))[:2]
    assert await state_of(client, thread_id) == latest
    assert latest["values"] == {"log": ["in", "a", "b", "c"]}
    assert latest["next"] == latest["tasks"] == latest["interrupts"] == []
    assert latest["metadata"]["source"] == "loop"
    assert latest["checkpoint"] == {
        "thread_id": thread_id,
        "checkpoint_ns": "",
        "checkpoint_id": latest["checkpoint_id"],
    }
    assert latest["parent_checkpoint"] == before["checkpoint"]
    assert before["next"] == ["c"]
    task = before["tasks"][0]
    assert {key: value for key, value in task.items() if key != "id"} == {
        "name": "c",
        "path": ["__pregel_pull", "c"],
        "error": None,
        "interrupts": [],
        "checkpoint": None,
        "state": None,
        "result": {"log": ["c"]},
    }


async def test_a_state_is_read_at_any_checkpoint(client: LangGraphClient) -> None:
    thread_id = await ran(client, "agent")
    history = await history_of(client, thread_id)
    for state in history:
        assert await state_of(client, thread_id, checkpoint_id=state["checkpoint_id"]) == state
        assert await state_of(client, thread_id, checkpoint=state["checkpoint"]) == state
    assert await state_of(client, thread_id, checkpoint={"thread_id": thread_id}) == history[0]


@pytest.mark.parametrize("checkpoint_id", ["nope", "deadbeef-0000-4000-8000-000000000000"])
async def test_an_unknown_checkpoint_is_empty(client: LangGraphClient, checkpoint_id: str) -> None:
    thread_id = await ran(client, "agent")
    for kwargs in ({"checkpoint_id": checkpoint_id}, {"checkpoint": {"checkpoint_id": checkpoint_id}}):
        state = await state_of(client, thread_id, **kwargs)
        assert (state["values"], state["next"], state["created_at"]) == ({}, [], None)
        assert state["checkpoint"]["checkpoint_id"] == state["checkpoint_id"] == checkpoint_id
    assert await history_of(client, thread_id, checkpoint={"checkpoint_id": checkpoint_id}) == []


async def test_an_interrupt_is_shown_with_its_task(client: LangGraphClient) -> None:
    thread_id = await ran(client, "both")
    state = await state_of(client, thread_id)
    thread = await client.threads.get(thread_id)
    assert state["next"] == ["left", "right"]
    assert {task["id"]: task["interrupts"] for task in state["tasks"]} == thread["interrupts"]
    assert sorted(item["value"] for item in state["interrupts"]) == ["left?", "right?"]
    answered = {item["value"]: item["id"] for item in state["interrupts"]}
    await client.runs.wait(thread_id, "both", command={"resume": {answered["left?"]: 1}})
    state = await state_of(client, thread_id)
    assert (state["next"], [item["value"] for item in state["interrupts"]]) == (["right"], ["right?"])


async def test_a_failed_task_shows_its_error_masked(client: LangGraphClient) -> None:
    shown = await ran(client, "agent", do={"b": {"fail": "bad value"}})
    assert (await state_of(client, shown))["tasks"][0]["error"] == "ValueError('bad value')"
    hidden = (await client.threads.create())["thread_id"]
    await client.runs.wait(hidden, "failing", input={"log": ["secret"]}, raise_error=False)
    assert (await state_of(client, hidden))["tasks"][0]["error"] == "Secret('An internal error occurred')"
    assert (await history_of(client, hidden))[0]["tasks"][0]["error"] == "Secret('An internal error occurred')"


async def test_a_selection_keeps_what_was_asked_for(server: Stack, client: LangGraphClient) -> None:
    thread_id = await ran(client, "agent", do={})
    assert await state_of(client, thread_id, select=["next", "values.log"]) == {
        "next": [],
        "values": {"log": ["in", "a", "b", "c"]},
    }
    checkpoint: Any = {"thread_id": thread_id}
    assert list(await state_of(client, thread_id, checkpoint=checkpoint, select=["values", "tasks"])) == [
        "values",
        "tasks",
    ]
    history = await history_of(client, thread_id, select=["next", "values.none"])
    assert history[1] == {"next": ["c"], "values": {}}
    async with httpx.AsyncClient(base_url=server.url) as http:
        for query in ('select=["next","tasks"]', "select=next,tasks", "select=next&select=tasks"):
            assert list((await http.get(f"/threads/{thread_id}/state?{query}")).json()) == ["next", "tasks"]
    for refused in (
        client.threads.get_state(thread_id, select=["nothing"]),
        client.threads.get_state(thread_id, checkpoint=checkpoint, select=["nothing"]),
        client.threads.get_history(thread_id, select=["nothing"]),
    ):
        with pytest.raises(UnprocessableEntityError):
            await refused


async def test_a_history_is_limited_and_filtered(server: Stack, client: LangGraphClient) -> None:
    thread_id = await ran(client, "agent")
    await client.runs.wait(thread_id, "agent", input={"log": ["again"]})
    whole = await history_of(client, thread_id, limit=100)
    assert [state["next"] for state in whole] == [[], ["c"], ["b"], ["a"], ["__start__"]] * 2
    assert await history_of(client, thread_id, limit=3) == whole[:3]
    third = whole[2]
    checkpoint_id = third["checkpoint_id"]
    befores: list[Any] = [checkpoint_id, third["checkpoint"], {"configurable": {"checkpoint_id": checkpoint_id}}]
    for before in befores:
        assert await history_of(client, thread_id, before=before, limit=2) == whole[3:5]
    inputs = await history_of(client, thread_id, metadata={"source": "input"})
    assert inputs == [whole[4], whole[9]]
    assert await history_of(client, thread_id, checkpoint=third["checkpoint"]) == [third]
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.get(f"/threads/{thread_id}/history", params={"limit": 2, "before": checkpoint_id})
        assert answer.json() == whole[3:5]
        assert len((await http.post(f"/threads/{thread_id}/history", json={})).json()) == 1
        assert len((await http.get(f"/threads/{thread_id}/history")).json()) == 10


async def test_a_subgraph_is_addressed_by_its_namespace(client: LangGraphClient) -> None:
    thread_id = await ran(client, "nested_hitl")
    state = await state_of(client, thread_id)
    task = state["tasks"][0]
    assert task["state"] is None
    assert task["checkpoint"] == {"thread_id": thread_id, "checkpoint_ns": f"sub:{task['id']}"}
    deep = (await state_of(client, thread_id, subgraphs=True))["tasks"][0]
    assert deep["checkpoint"] is None
    inner = deep["state"]
    assert inner["next"] == ["inner_ask"]
    assert inner["checkpoint"]["checkpoint_ns"] == f"sub:{task['id']}"
    assert set(inner["checkpoint"]["checkpoint_map"]) == {"", f"sub:{task['id']}"}
    assert await state_of(client, thread_id, checkpoint=task["checkpoint"]) == inner
    assert (await history_of(client, thread_id, checkpoint=task["checkpoint"]))[0] == inner
    assert [found["next"] for found in await history_of(client, thread_id)] == [["sub"], ["__start__"]]


async def test_the_state_of_a_subgraph_is_updated(client: LangGraphClient) -> None:
    thread_id = await ran(client, "nested_hitl")
    address = (await state_of(client, thread_id))["tasks"][0]["checkpoint"]
    written: Any = await client.threads.update_state(thread_id, {"log": ["patched"]}, checkpoint=address)
    assert written["checkpoint"]["checkpoint_ns"] == address["checkpoint_ns"]
    assert (await state_of(client, thread_id, checkpoint=address))["values"] == {"log": ["in", "patched"]}
    thread = await client.threads.get(thread_id)
    assert (thread["status"], thread["values"]) == ("interrupted", {"log": ["in"]})
    done = await client.runs.wait(thread_id, "nested_hitl", command={"resume": "yes"})
    assert done == {"log": ["in", "in", "patched", "inner=yes", "after"]}


async def test_an_update_writes_a_checkpoint_and_the_thread(client: LangGraphClient) -> None:
    thread_id = await ran(client, "agent")
    before: Any = await client.threads.get(thread_id)
    written: Any = await client.threads.update_state(thread_id, {"log": ["mine"]}, as_node="a")
    state = await state_of(client, thread_id)
    assert written == {
        "checkpoint": state["checkpoint"],
        "configurable": state["checkpoint"],
        "checkpoint_id": state["checkpoint_id"],
    }
    assert (state["metadata"]["source"], state["next"]) == ("update", ["b"])
    thread: Any = await client.threads.get(thread_id)
    assert thread["values"] == state["values"] == {"log": ["in", "a", "b", "c", "mine"]}
    assert (thread["status"], thread["interrupts"], thread["error"]) == ("interrupted", {}, None)
    assert thread["state_updated_at"] > before["state_updated_at"]
    done: Any = await client.runs.wait(thread_id, "agent")
    assert done["log"][-3:] == ["mine", "b", "c"]


async def test_an_update_clears_an_error_and_pending_interrupts(client: LangGraphClient) -> None:
    failed = await ran(client, "agent", do={"b": {"fail": "bad value"}})
    assert (await client.threads.get(failed))["status"] == "error"
    await client.threads.update_state(failed, {"do": {}}, as_node="a")
    thread: Any = await client.threads.get(failed)
    assert (thread["status"], thread["error"]) == ("interrupted", None)
    asked = await ran(client, "hitl")
    await client.threads.update_state(asked, {"log": ["skipped"]}, as_node="ask")
    assert (await client.threads.get(asked))["interrupts"] == {}
    assert (await state_of(client, asked))["next"] == ["after"]


async def test_an_update_may_begin_a_thread(client: LangGraphClient) -> None:
    thread_id = (await client.threads.create(graph_id="agent"))["thread_id"]
    await client.threads.update_state(thread_id, {"log": ["first"]}, as_node="__start__")
    assert (await state_of(client, thread_id))["next"] == ["a"]
    assert (await client.threads.get(thread_id))["values"] == {"log": ["first"]}


async def test_an_update_with_end_clears_what_is_next(client: LangGraphClient) -> None:
    thread_id = await ran(client, "hitl")
    await client.threads.update_state(thread_id, None, as_node="__end__")
    thread = await client.threads.get(thread_id)
    assert (thread["status"], thread["interrupts"]) == ("idle", {})
    assert (await state_of(client, thread_id))["next"] == []


async def test_an_update_forks_from_an_older_checkpoint(client: LangGraphClient) -> None:
    thread_id = await ran(client, "agent")
    older = (await history_of(client, thread_id))[2]
    await client.threads.update_state(thread_id, {"log": ["B"]}, as_node="b", checkpoint_id=older["checkpoint_id"])
    forked = await state_of(client, thread_id)
    assert (forked["values"]["log"], forked["next"]) == (["in", "a", "B"], ["c"])
    assert forked["parent_checkpoint"] == older["checkpoint"]
    copy: Any = await client.threads.update_state(thread_id, None, as_node="__copy__", checkpoint=older["checkpoint"])
    copied = await state_of(client, thread_id)
    assert copied["checkpoint_id"] == copy["checkpoint_id"]
    assert (copied["next"], copied["metadata"]["source"]) == (["b"], "fork")


async def test_an_update_outlives_the_rollback_of_the_run_before_it(client: LangGraphClient) -> None:
    thread_id = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread_id, "agent", input={"log": ["in"]})
    await client.runs.join(thread_id, run["run_id"])
    await client.threads.update_state(thread_id, {"log": ["mine"]}, as_node="a")
    await client.runs.delete(thread_id, run["run_id"])
    assert (await state_of(client, thread_id))["values"]["log"] == ["in", "a", "b", "c", "mine"]


@pytest.mark.parametrize(
    ("graph_id", "values", "as_node"),
    [
        ("agent", ["x"], "a"),
        ("agent", "x", "a"),
        ("agent", {"log": ["x"]}, "nobody"),
        ("agent", {"log": 7}, "a"),
        ("failing", {"log": ["lost"]}, "first"),
    ],
)
async def test_an_update_that_fails_changes_nothing(
    client: LangGraphClient, graph_id: str, values: Any, as_node: str
) -> None:
    thread_id = await ran(client, graph_id)
    state, thread = await state_of(client, thread_id), await client.threads.get(thread_id)
    with pytest.raises(BadRequestError) as refused:
        await client.threads.update_state(thread_id, values, as_node=as_node)
    assert "swordfish" not in str(refused.value)
    assert await state_of(client, thread_id) == state
    assert await client.threads.get(thread_id) == thread


async def test_an_update_needs_a_graph_and_a_known_checkpoint(client: LangGraphClient) -> None:
    with pytest.raises(BadRequestError):
        await client.threads.update_state((await client.threads.create())["thread_id"], {"log": []})
    thread_id = await ran(client, "agent")
    unknown: Any = {"checkpoint_id": str(uuid4())}
    with pytest.raises(NotFoundError):
        await client.threads.update_state(thread_id, {"log": ["x"]}, checkpoint_id=unknown["checkpoint_id"])
    with pytest.raises(NotFoundError):
        await client.threads.update_state(thread_id, {"log": ["x"]}, checkpoint=unknown)
    assert len(await history_of(client, thread_id)) == 5


async def test_an_update_is_refused_while_a_run_is_in_flight(client: LangGraphClient, tmp_path: Path) -> None:
    thread_id = (await client.threads.create())["thread_id"]
    slow: Any = {"log": [], "do": {"b": {"trace": str(tmp_path / "begun"), "until": str(tmp_path / "go")}}}
    run = await client.runs.create(thread_id, "agent", input=slow)

    async def begun() -> bool:
        return (tmp_path / "begun").exists()

    await eventually(begun)
    with pytest.raises(ConflictError):
        await client.threads.update_state(thread_id, {"log": ["x"]})
    live = await state_of(client, thread_id)
    assert (live["values"]["log"], live["next"]) == (["a"], ["b"])
    (tmp_path / "go").touch()
    await client.runs.join(thread_id, run["run_id"])
    thread: Any = await client.threads.get(thread_id)
    assert thread["values"]["log"] == ["a", "b", "c"]
    delayed = await client.runs.create(thread_id, "agent", input={"log": []}, after_seconds=60)
    with pytest.raises(ConflictError):
        await client.threads.update_state(thread_id, {"log": ["x"]})
    await client.runs.cancel(thread_id, delayed["run_id"])
    await client.threads.update_state(thread_id, {"log": ["x"]}, as_node="c")
    assert (await client.threads.get(thread_id))["status"] == "idle"


async def test_what_a_cancelled_run_settles_late_does_not_hide_an_update(
    client: LangGraphClient, temporal: Client, tmp_path: Path
) -> None:
    thread_id = (await client.threads.create())["thread_id"]
    gate = tmp_path / "gate"
    stubborn: Any = {"log": [], "do": {"b": {"trace": str(tmp_path / "begun"), "stubborn_until": str(gate)}}}
    run = await client.runs.create(thread_id, "agent", input=stubborn)

    async def begun() -> bool:
        return (tmp_path / "begun").exists()

    await eventually(begun)
    await client.runs.cancel(thread_id, run["run_id"])
    await client.threads.update_state(thread_id, {"log": ["mine"]}, as_node="c")
    gate.touch()

    async def settled() -> bool:
        history = await temporal.get_workflow_handle(thread_workflow_id(thread_id)).fetch_history()
        return any(event.HasField("activity_task_completed_event_attributes") for event in history.events)

    await eventually(settled)
    thread: Any = await client.threads.get(thread_id)
    assert (thread["status"], thread["error"], thread["values"]["log"]) == ("idle", None, ["a", "mine"])


async def test_the_join_of_a_run_does_not_show_a_later_update(client: LangGraphClient) -> None:
    thread_id = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread_id, "agent", input={"log": []})
    done = await client.runs.join(thread_id, run["run_id"])
    await client.threads.update_state(thread_id, {"log": ["x"]}, as_node="c")
    assert await client.runs.join(thread_id, run["run_id"]) == done == {"log": ["a", "b", "c"]}


async def test_a_remote_graph_reads_and_writes_states(client: LangGraphClient) -> None:
    thread_id = (await client.threads.create(graph_id="nested_hitl"))["thread_id"]
    config: RunnableConfig = {"configurable": {"thread_id": thread_id}}
    remote = RemoteGraph("nested_hitl", client=client)
    fresh = await remote.aget_state(config)
    assert (fresh.values, fresh.next) == ({}, ())
    await remote.ainvoke({"log": ["in"]}, config)
    state = await remote.aget_state(config, subgraphs=True)
    assert state.next == ("sub",)
    assert state.interrupts[0].value == "inner?"
    inner: Any = state.tasks[0].state
    assert inner.next == ("inner_ask",)
    assert (await remote.aget_state(inner.config)).values == inner.values
    written: Any = await remote.aupdate_state(config, {"log": ["mine"]}, as_node="sub")
    history = [item async for item in remote.aget_state_history(config)]
    assert history[0].config == written | {"configurable": {**written["configurable"], "checkpoint_map": {}}}
    assert [item.next for item in history] == [("after",), ("sub",), ("__start__",)]
    found = [item async for item in remote.aget_state_history(config, before=history[0].config, limit=1)]
    assert [item.next for item in found] == [("sub",)]
    assert (await remote.aget_state(history[1].config)).next == ("sub",)
    assert (
        await remote.aget_state({"configurable": {"thread_id": thread_id, "checkpoint_id": str(uuid4())}})
    ).next == ()


async def test_a_states_metadata_names_its_thread_however_it_is_read(server: Stack, client: LangGraphClient) -> None:
    """Of a thread that is asked in a subgraph: the graph's states, and the subgraph's own."""
    thread_id = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread_id, "nested_hitl", input={})
    latest = await state_of(client, thread_id, subgraphs=True)
    nested = latest["tasks"][0]["state"]
    found = [latest, nested, await state_of(client, thread_id), *await history_of(client, thread_id)]
    for at in (latest["checkpoint"], nested["checkpoint"]):
        found += [await state_of(client, thread_id, checkpoint=at), *await history_of(client, thread_id, checkpoint=at)]
    found.append(await state_of(client, thread_id, checkpoint_id=latest["checkpoint"]["checkpoint_id"]))
    async with httpx.AsyncClient(base_url=server.url) as http:
        namespaces = ([], nested["checkpoint"]["checkpoint_ns"].split("|"))
        for number, namespace in enumerate(namespaces):
            params = {"namespace": namespace}
            body = {"id": number, "method": "state.listCheckpoints", "params": params}
            found += (await http.post(f"/threads/{thread_id}/commands", json=body)).json()["result"]["checkpoints"]
    assert len(found) > 10
    assert [state["metadata"]["thread_id"] for state in found] == [thread_id] * len(found)
