"""What a plain HTTP client sees of a thread by the streaming protocol."""

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from durathread.streams.frames import is_of
from tests.protocol.support import (
    ALL,
    data_of,
    is_root,
    kinds,
    run_start,
    watching,
)
from tests.stack import Stack

QUESTION = {"messages": [{"role": "user", "content": "one two"}]}


async def test_a_run_is_shown_from_its_beginning_to_its_end(server: Stack, thread_id: str) -> None:
    async with watching(server.url, thread_id) as watch:
        run_id = await run_start(server.url, thread_id, "agent", input={"log": ["in"]})
        events = await watch.ended()
    step = ["tasks", "updates", "tasks", "checkpoints", "values"]
    opening = ["lifecycle running", "checkpoints", "checkpoints", "values"]
    assert kinds(events) == [*opening, *step, *step, *step, "lifecycle completed"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert len({event["event_id"] for event in events}) == len(events)
    assert all(is_of(event["event_id"], run_id) for event in events)
    assert [values["log"] for values in data_of(events, "values")] == [
        ["in"],
        ["in", "a"],
        ["in", "a", "b"],
        ["in", "a", "b", "c"],
    ]
    assert data_of(events, "updates") == [{"node": name, "values": {"log": [name]}} for name in "abc"]
    assert [event["params"]["node"] for event in events if event["method"] == "updates"] == ["a", "b", "c"]


async def test_a_checkpoint_is_shown_right_before_its_values(server: Stack, thread_id: str) -> None:
    async with watching(server.url, thread_id, ["checkpoints", "values", "lifecycle"]) as watch:
        await run_start(server.url, thread_id, "agent", input={"log": ["in"]})
        events = await watch.ended()
    found = data_of(events, "checkpoints")
    assert [item["step"] for item in found] == [-1, 0, 1, 2, 3]
    assert [item["source"] for item in found] == ["input", *["loop"] * 4]
    assert [item.get("parent_id") for item in found] == [None, *[item["id"] for item in found[:-1]]]
    methods = [event["method"] for event in events[1:-1]]
    assert methods == ["checkpoints", *["checkpoints", "values"] * 4]


async def test_a_message_is_a_start_blocks_and_a_finish(server: Stack, thread_id: str) -> None:
    async with watching(server.url, thread_id, ["messages", "lifecycle"]) as watch:
        run_id = await run_start(server.url, thread_id, "chat", input=QUESTION)
        events = await watch.ended()
    data = data_of(events, "messages")
    assert [item["event"] for item in data] == [
        "message-start",
        "content-block-start",
        "content-block-delta",
        "content-block-delta",
        "content-block-finish",
        "message-finish",
    ]
    assert len({item["id"] for item in data}) == 1
    assert data[0]["role"] == "ai"
    assert data[0]["metadata"]["langgraph_node"] == "speak"
    assert data[0]["metadata"]["run_id"] == run_id
    assert [item["delta"] for item in data[2:4]] == [
        {"type": "text-delta", "text": "one "},
        {"type": "text-delta", "text": "two "},
    ]
    assert data[4]["content"] == {"type": "text", "text": "one two "}
    assert {event["params"]["node"] for event in events if event["method"] == "messages"} == {"speak"}


async def test_a_subgraph_begins_and_ends_in_its_namespace(server: Stack, thread_id: str) -> None:
    async with watching(server.url, thread_id) as watch:
        await run_start(server.url, thread_id, "nested_chat", input=QUESTION)
        events = await watch.ended()
    inner = [event for event in events if event["method"] == "lifecycle" and event["params"]["namespace"]]
    assert [event["params"]["data"]["event"] for event in inner] == ["started", "completed"]
    (namespace,) = {tuple(event["params"]["namespace"]) for event in inner}
    assert namespace[0].startswith("sub:")
    assert {event["params"]["data"]["graph_name"] for event in inner} == {"sub"}
    assert inner[0]["params"]["data"]["trigger_call_id"] == namespace[0].partition(":")[2]
    starts = [event for event in events if event["params"]["data"].get("event") == "message-start"]
    assert [event["params"]["namespace"] for event in starts] == [list(namespace), []]


async def test_a_question_comes_when_it_can_be_answered(server: Stack, thread_id: str, client: LangGraphClient) -> None:
    async with watching(server.url, thread_id) as watch:
        await run_start(server.url, thread_id, "hitl", input={"log": ["in"]})
        await watch.until(lambda event: event["method"] == "input.requested")
        assert (await client.threads.get(thread_id))["status"] == "interrupted"
        events = await watch.ended()
    assert kinds(events)[-2:] == ["input.requested", "lifecycle interrupted"]
    (asked,) = data_of(events, "input.requested")
    assert asked["payload"] == asked["value"] == "ask?"
    state = await client.threads.get_state(thread_id)
    assert asked["interrupt_id"] == state["tasks"][0]["interrupts"][0]["id"]
    assert not any("__interrupt__" in values for values in data_of(events, "values"))


async def test_a_question_in_a_subgraph_is_asked_once_in_its_namespace(server: Stack, thread_id: str) -> None:
    async with watching(server.url, thread_id, ["input", "lifecycle"]) as watch:
        await run_start(server.url, thread_id, "nested_hitl", input={"log": ["in"]})
        events = await watch.until(lambda event: is_root(event, "interrupted"))
    assert kinds(events) == [
        "lifecycle running",
        "lifecycle started",
        "lifecycle interrupted",
        "input.requested",
        "lifecycle interrupted",
    ]
    assert events[3]["params"]["namespace"] == events[1]["params"]["namespace"] != []


async def test_a_failure_has_its_text(server: Stack, thread_id: str) -> None:
    async with watching(server.url, thread_id) as watch:
        await run_start(server.url, thread_id, "agent", input={"log": ["in"], "do": {"b": {"fail": "boom"}}})
        events = await watch.ended()
    assert events[-1]["params"]["data"] == {"event": "failed", "graph_name": "agent", "error": "boom"}


async def test_only_what_is_asked_for_is_shown(server: Stack, thread_id: str) -> None:
    async with watching(server.url, thread_id, ["updates", "lifecycle"]) as watch:
        await run_start(server.url, thread_id, "agent", input={"log": ["in"]})
        events = await watch.ended()
    assert kinds(events) == ["lifecycle running", "updates", "updates", "updates", "lifecycle completed"]


async def test_one_level_of_a_thread_can_be_watched(server: Stack, thread_id: str) -> None:
    async with watching(server.url, thread_id, ["values", "lifecycle"], namespaces=[[]], depth=0) as watch:
        await run_start(server.url, thread_id, "nested_chat", input=QUESTION)
        events = await watch.ended()
    assert kinds(events) == ["lifecycle running", *["values"] * 3, "lifecycle completed"]


async def test_who_comes_later_is_shown_the_same(server: Stack, thread_id: str) -> None:
    async with watching(server.url, thread_id) as first:
        await run_start(server.url, thread_id, "chat", input=QUESTION)
        await first.ended()
    async with watching(server.url, thread_id) as second:
        await second.ended()
        assert second.events == first.events
        await run_start(server.url, thread_id, "chat", input=QUESTION)
        await second.ended()
    assert [event["seq"] for event in second.events] == list(range(1, len(second.events) + 1))


async def test_since_is_where_a_client_goes_on(server: Stack, thread_id: str) -> None:
    async with watching(server.url, thread_id) as first:
        await run_start(server.url, thread_id, "agent", input={"log": ["in"]})
        events = await first.ended()
    for since in (0, 1, 7, len(events) - 1):
        async with watching(server.url, thread_id, since=since) as rest:
            assert await rest.ended() == events[since:]


async def test_since_counts_what_a_client_did_not_ask_for(server: Stack, thread_id: str) -> None:
    async with watching(server.url, thread_id, ["lifecycle"]) as first:
        await run_start(server.url, thread_id, "agent", input={"log": ["in"]})
        (begun, ended) = await first.ended()
    assert (begun["seq"], ended["seq"]) == (1, 20)
    async with watching(server.url, thread_id, ["values", "lifecycle"], since=begun["seq"]) as rest:
        assert kinds(await rest.ended()) == [*["values"] * 4, "lifecycle completed"]


async def test_a_client_that_remembers_more_than_there_is_begins_anew(server: Stack, thread_id: str) -> None:
    async with watching(server.url, thread_id) as first:
        await run_start(server.url, thread_id, "agent", input={"log": ["in"]})
        events = await first.ended()
    async with watching(server.url, thread_id, since=1000) as again:
        assert await again.ended() == events


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "Invalid channels"),
        ({"channels": []}, "Invalid channels"),
        ({"channels": "values"}, "Invalid channels"),
        ({"channels": ["values", "debug"]}, "Invalid channel 'debug'"),
        ({"channels": ["custom:"]}, "Invalid channel 'custom:'"),
        ({"channels": [7]}, "Invalid channel 7"),
        ({"channels": [["values"]]}, "Invalid channel"),
        ({"channels": ALL, "namespaces": "sub"}, "Invalid namespaces"),
        ({"channels": ALL, "namespaces": [["sub", 1]]}, "Invalid namespaces"),
        ({"channels": ALL, "depth": -1}, "Invalid depth"),
        ({"channels": ALL, "depth": "1"}, "Invalid depth"),
        ({"channels": ALL, "since": True}, "Invalid since"),
        ([], "Invalid subscription"),
    ],
)
async def test_what_cannot_be_watched_is_refused(server: Stack, thread_id: str, body: object, said: str) -> None:
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.post(f"/threads/{thread_id}/stream/events", json=body)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith(said)
