"""What the commands of the streaming protocol do, and how they are refused."""

from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from durathread.streams.frames import is_of
from tests.protocol.support import ALL, command, data_of, kinds, run_start, watching
from tests.runs.support import entered, log_of, status_becomes
from tests.stack import Stack

NOBODY = "deadbeef-0000-4000-8000-000000000000"


async def asked(server: Stack, thread_id: str, graph: str, **given: Any) -> list[str]:
    """Start a run that asks, and return the ids of its questions."""
    async with watching(server.url, thread_id, ["input", "lifecycle"]) as watch:
        await run_start(server.url, thread_id, graph, input={"log": ["in"]}, **given)
        return [item["interrupt_id"] for item in data_of(await watch.ended(), "input.requested")]


async def log_after(server: Stack, client: LangGraphClient, thread_id: str, runs: int = 2) -> list[str]:
    """Wait for the end of the last run, and return the log."""
    async with watching(server.url, thread_id, ["lifecycle"], namespaces=[[]], depth=0) as watch:
        await watch.ended(runs)
    values: Any = (await client.threads.get_state(thread_id))["values"]
    return values["log"]


async def test_a_run_creates_its_thread(server: Stack, thread_id: str, client: LangGraphClient) -> None:
    answer = await command(
        server.url,
        thread_id,
        "run.start",
        assistant_id="agent",
        input={"log": ["in"]},
        metadata={"who": "me"},
        config={"configurable": {"flavour": "sweet"}, "tags": ["t"]},
    )
    assert answer["type"] == "success"
    assert answer["meta"] == {"applied_through_seq": 0}
    run: Any = await client.runs.get(thread_id, answer["result"]["run_id"])
    assert run["metadata"]["who"] == "me"
    assert run["multitask_strategy"] == "enqueue"
    assert run["kwargs"]["config"]["configurable"]["flavour"] == "sweet"
    assert run["kwargs"]["subgraphs"]
    assert run["kwargs"]["resumable"]


async def test_events_of_a_run_come_behind_what_its_command_was_answered(server: Stack, thread_id: str) -> None:
    async with watching(server.url, thread_id) as watch:
        await run_start(server.url, thread_id, "agent", input={"log": ["in"]})
        first = await watch.ended()
    answer = await command(server.url, thread_id, "run.start", assistant_id="agent", input={"log": ["in"]})
    seq = answer["meta"]["applied_through_seq"]
    assert seq == first[-1]["seq"]
    async with watching(server.url, thread_id, since=seq) as watch:
        events = await watch.ended()
    assert all(is_of(event["event_id"], answer["result"]["run_id"]) for event in events)
    assert kinds(events)[0] == "lifecycle running"


@pytest.mark.parametrize("given", [{}, {"multitaskStrategy": "nonsense"}, {"multitaskStrategy": "enqueue"}])
async def test_runs_wait_for_those_before_them(
    server: Stack, thread_id: str, client: LangGraphClient, given: Any
) -> None:
    await run_start(server.url, thread_id, "agent", input={"log": ["1"]})
    await run_start(server.url, thread_id, "agent", input={"log": ["2"]}, **given)
    assert await log_after(server, client, thread_id) == ["1", "a", "b", "c", "2", "a", "b", "c"]


async def test_an_interrupted_run_is_shown_to_be(server: Stack, thread_id: str, tmp_path: Any) -> None:
    trace = tmp_path / "trace"
    async with watching(server.url, thread_id, ["lifecycle"]) as watch:
        do = {"b": {"trace": str(trace), "sleep": 30}}
        first = await run_start(server.url, thread_id, "agent", input={"log": ["1"], "do": do})
        await entered(trace)
        second = await run_start(
            server.url, thread_id, "agent", input={"log": ["2"], "do": {}}, multitaskStrategy="interrupt"
        )
        events = await watch.ended(2)
    assert kinds(events) == [
        "lifecycle running",
        "lifecycle completed",
        "lifecycle running",
        "lifecycle completed",
    ]
    assert [data.get("status") for data in data_of(events, "lifecycle")] == [None, "interrupted", None, None]
    assert [is_of(event["event_id"], first) for event in events] == [True, True, False, False]
    assert [is_of(event["event_id"], second) for event in events] == [False, False, True, True]


async def test_nothing_of_a_run_follows_its_end(server: Stack, thread_id: str, client: LangGraphClient) -> None:
    question = {"messages": [{"role": "user", "content": "slowly " * 40}]}
    async with watching(server.url, thread_id) as watch:
        first = await run_start(server.url, thread_id, "chat", input=question)
        await watch.until(lambda event: event["params"]["data"].get("event") == "content-block-delta")
        await client.runs.cancel(thread_id, first, wait=True)
        await run_start(server.url, thread_id, "chat", input={"messages": [{"role": "user", "content": "one"}]})
        events = await watch.ended(2)
    end = next(n for n, event in enumerate(events) if event["params"]["data"].get("status") == "interrupted")
    assert {is_of(event["event_id"], first) for event in events[: end + 1]} == {True}
    assert {is_of(event["event_id"], first) for event in events[end + 1 :]} == {False}


async def test_an_answer_goes_on_from_where_it_was_asked(
    server: Stack, thread_id: str, client: LangGraphClient
) -> None:
    (interrupt_id,) = await asked(server, thread_id, "hitl")
    answer = await command(
        server.url, thread_id, "input.respond", namespace=[], interrupt_id=interrupt_id, response="yes"
    )
    assert answer["result"] == {}
    assert await log_after(server, client, thread_id) == ["in", "ask=yes", "after"]


async def test_several_answers_are_given_at_once(server: Stack, thread_id: str, client: LangGraphClient) -> None:
    ids = await asked(server, thread_id, "both")
    assert len(ids) == 2
    responses = [{"interrupt_id": i, "response": "yes", "namespace": []} for i in ids]
    answer = await command(server.url, thread_id, "input.respond", responses=responses)
    assert answer["type"] == "success"
    assert sorted(await log_after(server, client, thread_id)) == ["after", "in", "left=yes", "right=yes"]


async def test_answers_may_be_given_one_after_the_other(server: Stack, thread_id: str, client: LangGraphClient) -> None:
    for interrupt_id in await asked(server, thread_id, "both"):
        answer = await command(server.url, thread_id, "input.respond", interrupt_id=interrupt_id, response="yes")
        assert answer["type"] == "success"
    assert sorted(await log_after(server, client, thread_id, 3)) == ["after", "in", "left=yes", "right=yes"]


async def test_an_answer_may_change_the_state_and_jump(server: Stack, thread_id: str, client: LangGraphClient) -> None:
    (interrupt_id,) = await asked(server, thread_id, "hitl")
    await command(
        server.url,
        thread_id,
        "input.respond",
        interrupt_id=interrupt_id,
        response="yes",
        update={"log": ["changed"]},
        goto="after",
        metadata={"second": True},
    )
    log = await log_after(server, client, thread_id)
    assert log[:2] == ["in", "changed"]
    assert log.count("after") == 2
    runs: Any = await client.runs.list(thread_id)
    assert runs[0]["metadata"]["second"] is True


async def test_an_answer_is_given_with_the_config_of_the_question(
    server: Stack, thread_id: str, client: LangGraphClient
) -> None:
    (interrupt_id,) = await asked(server, thread_id, "hitl", config={"configurable": {"flavour": "sweet", "x": 1}})
    given = {"configurable": {"x": 2}}
    await command(server.url, thread_id, "input.respond", interrupt_id=interrupt_id, response="y", config=given)
    runs: Any = await client.runs.list(thread_id)
    configurable = runs[0]["kwargs"]["config"]["configurable"]
    assert (configurable["flavour"], configurable["x"]) == ("sweet", 2)


async def test_nobody_answers_twice(server: Stack, thread_id: str, client: LangGraphClient) -> None:
    (interrupt_id,) = await asked(server, thread_id, "hitl")
    given = {"interrupt_id": interrupt_id, "response": "yes"}
    first = await command(server.url, thread_id, "input.respond", **given)
    second = await command(server.url, thread_id, "input.respond", **given)
    assert (first["type"], second["type"]) == ("success", "error")
    assert second["error"] == "no_such_interrupt"
    assert await log_after(server, client, thread_id) == ["in", "ask=yes", "after"]


async def test_the_input_of_a_run_answers_what_waits(server: Stack, thread_id: str, client: LangGraphClient) -> None:
    await asked(server, thread_id, "hitl")
    await run_start(server.url, thread_id, "hitl", input="yes")
    assert await log_after(server, client, thread_id) == ["in", "ask=yes", "after"]


async def test_a_run_forks_from_a_checkpoint(server: Stack, thread_id: str, client: LangGraphClient) -> None:
    await asked(server, thread_id, "hitl")
    history = await client.threads.get_history(thread_id)
    before = next(state for state in history if state["next"] == ["__start__"])
    config = {"configurable": {"checkpoint_id": before["checkpoint"]["checkpoint_id"]}}
    async with watching(server.url, thread_id, ["input", "lifecycle"]) as watch:
        await watch.ended()
        # The thread waits for an answer, but this is none.
        await run_start(server.url, thread_id, "hitl", input={"log": ["other"]}, config=config)
        events = await watch.ended()
    assert kinds(events)[-2:] == ["input.requested", "lifecycle interrupted"]
    values: Any = (await client.threads.get_state(thread_id))["values"]
    assert values["log"] == ["other"]


async def test_a_run_from_an_unknown_checkpoint_is_refused(
    server: Stack, thread_id: str, client: LangGraphClient
) -> None:
    await run_start(server.url, thread_id, "agent", input={"log": ["in"]})
    log = await log_after(server, client, thread_id, 1)
    config = {"configurable": {"checkpoint_id": NOBODY}}
    answer = await command(
        server.url, thread_id, "run.start", assistant_id="agent", input={"log": ["other"]}, config=config
    )
    assert answer["error"] == "no_such_checkpoint"
    assert len(await client.runs.list(thread_id)) == 1
    assert await log_of(client, thread_id) == log


async def test_a_fork_is_a_command_of_its_own(server: Stack, thread_id: str, client: LangGraphClient) -> None:
    await run_start(server.url, thread_id, "agent", input={"log": ["in"]})
    await log_after(server, client, thread_id, 1)
    found = (await command(server.url, thread_id, "state.listCheckpoints"))["result"]["checkpoints"]
    assert [item["step"] for item in found] == [3, 2, 1, 0, -1]
    checkpoint_id = found[2]["id"]
    answer = await command(server.url, thread_id, "state.fork", checkpoint_id=checkpoint_id)
    assert answer["result"]["thread_id"] == thread_id
    assert await log_after(server, client, thread_id) == ["in", "a", "b", "c"]
    history = await client.threads.get_history(thread_id, limit=20)
    parents = [state["parent_checkpoint"]["checkpoint_id"] for state in history if state["parent_checkpoint"]]
    assert parents.count(checkpoint_id) == 2
    missing = await command(server.url, thread_id, "state.fork", checkpoint_id=str(uuid4()))
    assert missing["error"] == "no_such_checkpoint"


async def test_checkpoints_are_listed_page_by_page(server: Stack, thread_id: str, client: LangGraphClient) -> None:
    await run_start(server.url, thread_id, "agent", input={"log": ["in"]})
    await log_after(server, client, thread_id, 1)
    first = (await command(server.url, thread_id, "state.listCheckpoints", limit=2))["result"]["checkpoints"]
    assert [item["step"] for item in first] == [3, 2]
    rest = await command(server.url, thread_id, "state.listCheckpoints", before=first[-1]["id"])
    assert [item["step"] for item in rest["result"]["checkpoints"]] == [1, 0, -1]
    assert all("T" in item["timestamp"] for item in first)
    missing = await command(server.url, thread_id, "state.listCheckpoints", before=str(uuid4()))
    assert missing["error"] == "no_such_checkpoint"


async def test_a_state_is_read_whole_or_by_keys(server: Stack, thread_id: str, client: LangGraphClient) -> None:
    assert (await command(server.url, thread_id, "state.get", namespace=[]))["result"] == {"values": {}}
    await run_start(server.url, thread_id, "agent", input={"log": ["in"], "do": {}})
    log = await log_after(server, client, thread_id, 1)
    whole = (await command(server.url, thread_id, "state.get", namespace=[]))["result"]
    assert whole["values"] == {"log": log, "do": {}}
    state = await client.threads.get_state(thread_id)
    assert whole["checkpoint"] == {"id": state["checkpoint"]["checkpoint_id"], "ns": ""}
    some = await command(server.url, thread_id, "state.get", namespace=[], keys=["do", "other"])
    assert some["result"]["values"] == {"do": {}}
    missing = await command(server.url, thread_id, "state.get", namespace=["sub:1"])
    assert missing["error"] == "no_such_namespace"


async def test_a_message_is_injected_behind_the_run(server: Stack, thread_id: str, client: LangGraphClient) -> None:
    question = {"messages": [{"role": "user", "content": "slowly one"}]}
    async with watching(server.url, thread_id, ["lifecycle"]) as watch:
        await run_start(server.url, thread_id, "chat", input=question)
        answer = await command(
            server.url, thread_id, "input.inject", namespace=[], message={"role": "user", "content": "two"}
        )
        assert answer["result"] == {}
        await watch.ended(2)
    state: Any = (await client.threads.get_state(thread_id))["values"]
    assert [message["content"].strip() for message in state["messages"]] == ["slowly one", "slowly one", "two", "two"]


async def test_the_tree_of_a_run_has_its_subgraphs(server: Stack, thread_id: str, client: LangGraphClient) -> None:
    run_id = await run_start(
        server.url, thread_id, "nested_chat", input={"messages": [{"role": "user", "content": "one"}]}
    )
    async with watching(server.url, thread_id, ["lifecycle"], namespaces=[[]], depth=0) as watch:
        await watch.ended()
    for params in ({}, {"run_id": run_id}):
        tree = (await command(server.url, thread_id, "agent.getTree", **params))["result"]["tree"]
        assert (tree["namespace"], tree["status"], tree["graph_name"]) == ([], "completed", "nested_chat")
        (child,) = tree["children"]
        assert (child["status"], child["graph_name"], child["children"]) == ("completed", "sub", [])
    assert (await command(server.url, thread_id, "agent.getTree", run_id=str(uuid4())))["error"] == "no_such_run"
    assert (await command(server.url, str(uuid4()), "agent.getTree"))["error"] == "no_such_run"


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("run.start", {}, "invalid_argument"),
        ("run.start", {"assistant_id": "nobody"}, "invalid_argument"),
        ("run.start", {"assistant_id": str(uuid4())}, "invalid_argument"),
        ("run.start", {"assistant_id": "agent", "config": []}, "invalid_argument"),
        ("run.start", {"assistant_id": "agent", "config": {"recursion_limit": "x"}}, "invalid_argument"),
        ("run.start", {"assistant_id": "agent", "metadata": "x"}, "invalid_argument"),
        ("run.start", {"assistant_id": "agent", "config": {"metadata": "x"}}, "invalid_argument"),
        ("run.start", {"assistant_id": "agent", "config": {"configurable": 5}}, "invalid_argument"),
        ("run.start", {"assistant_id": "agent", "config": {"configurable": {"checkpoint_id": 5}}}, "invalid_argument"),
        (
            "run.start",
            {"assistant_id": "agent", "config": {"configurable": {"checkpoint_id": NOBODY}}},
            "no_such_checkpoint",
        ),
        ("input.respond", {}, "invalid_argument"),
        ("input.respond", {"responses": []}, "invalid_argument"),
        ("input.respond", {"responses": [1]}, "invalid_argument"),
        ("input.respond", {"responses": [{"interrupt_id": "a"}, {"interrupt_id": "a"}]}, "invalid_argument"),
        ("input.respond", {"interrupt_id": "a", "response": 1}, "no_such_run"),
        ("input.inject", {"message": {"role": "user", "content": "x"}}, "no_such_run"),
        ("input.inject", {"message": {"role": "ai", "content": "x"}}, "invalid_argument"),
        ("input.inject", {"message": {"role": "user", "content": "x"}, "namespace": ["s"]}, "no_such_namespace"),
        ("state.fork", {}, "invalid_argument"),
        ("state.fork", {"checkpoint_id": "x"}, "no_such_checkpoint"),
        ("state.get", {"namespace": [1]}, "invalid_argument"),
        ("state.get", {"keys": "log"}, "invalid_argument"),
        ("state.get", {"keys": [{}]}, "invalid_argument"),
        ("state.listCheckpoints", {"limit": -1}, "invalid_argument"),
        ("state.listCheckpoints", {"before": "x"}, "no_such_checkpoint"),
        ("state.listCheckpoints", {"before": ["x"]}, "no_such_checkpoint"),
        ("state.listCheckpoints", {"before": "deadbeef-0000-4000-8000-000000000000"}, "no_such_checkpoint"),
        ("agent.getTree", {"run_id": "x"}, "invalid_argument"),
        ("subscription.subscribe", {"channels": ALL}, "not_supported"),
        ("run.stop", {}, "unknown_command"),
    ],
)
async def test_a_refusal_is_an_answer(server: Stack, thread_id: str, method: str, params: Any, code: str) -> None:
    answer = await command(server.url, thread_id, method, **params)
    assert set(answer) == {"type", "id", "error", "message"}
    assert (answer["type"], answer["error"]) == ("error", code)
    assert answer["message"]
    async with httpx.AsyncClient(base_url=server.url) as http:
        assert (await http.get(f"/threads/{thread_id}")).status_code == 404


async def test_an_unknown_interrupt_is_refused(server: Stack, thread_id: str, client: LangGraphClient) -> None:
    await asked(server, thread_id, "hitl")
    answer = await command(server.url, thread_id, "input.respond", interrupt_id="other", response=1)
    assert answer["error"] == "no_such_interrupt"
    await status_becomes(client, thread_id, "interrupted")


@pytest.mark.parametrize(
    ("body", "command_id"),
    [
        (b"{", None),
        (b"[]", None),
        (b"{}", None),
        (b'{"id": -1, "method": "run.start"}', None),
        (b'{"id": "1", "method": "run.start"}', None),
        (b'{"id": true, "method": "run.start"}', None),
        (b'{"id": 1.5, "method": "run.start"}', None),
        (b'{"id": 3}', 3),
        (b'{"id": 3, "method": ""}', 3),
        (b'{"id": 3, "method": "run.start", "params": []}', 3),
    ],
)
async def test_what_is_no_command_is_a_bad_request(
    server: Stack, thread_id: str, body: bytes, command_id: int | None
) -> None:
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.post(f"/threads/{thread_id}/commands", content=body)
    assert answer.status_code == 400
    found = answer.json()
    assert (found["type"], found["id"], found["error"]) == ("error", command_id, "invalid_argument")
    assert found["message"]
