"""Clients of v1 and of the protocol on one run: each sees its own shape."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient

from tests.protocol.support import PATIENCE, Event, data_of, kinds, run_start, watching
from tests.runs.support import entered, start, status_becomes
from tests.stack import Stack

QUESTION: Any = {"messages": [{"role": "user", "content": "slowly one two three four five six seven eight"}]}
ANSWER = "slowly one two three four five six seven eight "


def text_of(events: list[Event]) -> str:
    deltas = [data["delta"] for data in data_of(events, "messages") if data["event"] == "content-block-delta"]
    return "".join(delta["text"] for delta in deltas)


async def test_a_run_of_v1_is_shown_whole_to_who_watches(
    server: Stack, thread_id: str, client: LangGraphClient
) -> None:
    async with watching(server.url, thread_id) as watch:
        parts = [
            part
            async for part in client.runs.stream(
                thread_id, "chat", input=QUESTION, if_not_exists="create", stream_mode=["values"]
            )
        ]
        events = await watch.ended()
    # As v1 has it: nothing but what was asked for.
    assert [part.event for part in parts] == ["metadata", "values", "values", "end"]
    assert kinds(events)[0] == "lifecycle running"
    assert kinds(events)[-1] == "lifecycle completed"
    assert text_of(events) == ANSWER
    assert {event["method"] for event in events} == {
        "lifecycle",
        "checkpoints",
        "values",
        "tasks",
        "custom",
        "messages",
        "updates",
    }


async def test_a_run_that_nobody_watches_is_not_shown(server: Stack, thread_id: str, client: LangGraphClient) -> None:
    await client.runs.wait(thread_id, "chat", input=QUESTION, if_not_exists="create")
    async with watching(server.url, thread_id) as watch:
        events = await watch.ended()
    # What it has left, in brief.
    assert kinds(events) == ["lifecycle running", "values", "lifecycle completed"]
    assert data_of(events, "values")[0]["messages"][-1]["content"] == ANSWER


async def test_who_comes_late_to_a_run_of_v1_is_told_what_was(
    server: Stack, thread_id: str, client: LangGraphClient
) -> None:
    stream = client.runs.stream(
        thread_id, "chat", input=QUESTION, if_not_exists="create", stream_mode=["messages-tuple", "values"]
    )
    seen = 0
    async for part in stream:
        seen += part.event == "messages"
        if seen == 3:
            break
    async with watching(server.url, thread_id) as watch:
        events = await watch.ended()
    assert kinds(events)[:2] == ["lifecycle running", "values"]
    assert kinds(events)[-1] == "lifecycle completed"
    assert text_of(events) == ANSWER
    assert len([kind for kind in kinds(events) if kind == "messages message-start"]) == 1


async def test_who_comes_while_a_node_is_silent_is_told_at_once(
    server: Stack, thread_id: str, client: LangGraphClient, tmp_path: Path
) -> None:
    trace, go = tmp_path / "trace", tmp_path / "go"
    await start(client, thread_id, "in", do={"b": {"trace": str(trace), "until": str(go)}})
    await entered(trace)
    async with watching(server.url, thread_id) as watch:
        events = await watch.until(lambda event: event["method"] == "values")
        assert kinds(events) == ["lifecycle running", "values"]
        assert events[1]["params"]["data"]["log"] == ["in", "a"]
        go.touch()
        events = await watch.ended()
    assert [values["log"] for values in data_of(events, "values")] == [
        ["in", "a"],
        ["in", "a", "b"],
        ["in", "a", "b", "c"],
    ]


async def test_a_run_of_the_protocol_is_shown_to_v1(server: Stack, thread_id: str, client: LangGraphClient) -> None:
    run_id = await run_start(server.url, thread_id, "chat", input=QUESTION)
    async with asyncio.timeout(PATIENCE):
        parts = [part async for part in client.runs.join_stream(thread_id, run_id)]
        tuples: Any = [
            part.data
            async for part in client.runs.join_stream(thread_id, run_id, stream_mode="messages-tuple")
            if part.event == "messages"
        ]
    names = [part.event for part in parts]
    assert (names[0], names[-1]) == ("metadata", "end")
    assert {"values", "updates", "messages", "custom"} <= set(names)
    assert "".join(chunk["content"] for chunk, _ in tuples) == ANSWER
    assert all(part.id for part in parts[:-1])


@pytest.mark.parametrize("starts", ["v1", "protocol"])
async def test_both_watch_one_run(server: Stack, thread_id: str, client: LangGraphClient, starts: str) -> None:
    await client.threads.create(thread_id=thread_id)
    tokens = list[str]()

    async def follow() -> None:
        async for part in await client.threads.join_stream(thread_id):
            data: Any = part.data
            if part.event.startswith("messages"):
                tokens.append(data[0]["content"])
            if part.event == "metadata" and data.get("status") == "run_done":
                return

    following = asyncio.create_task(follow())
    async with watching(server.url, thread_id) as watch:
        if starts == "v1":
            await client.runs.create(thread_id, "chat", input=QUESTION, stream_mode=["messages-tuple"])
        else:
            await run_start(server.url, thread_id, "chat", input=QUESTION)
        events = await watch.ended()
    await asyncio.wait_for(following, PATIENCE)
    assert "".join(tokens) == text_of(events) == ANSWER


async def test_two_readers_see_the_same(server: Stack, thread_id: str) -> None:
    async with watching(server.url, thread_id) as first, watching(server.url, thread_id) as second:
        await run_start(server.url, thread_id, "chat", input=QUESTION)
        assert await first.ended() == await second.ended()


async def test_a_question_of_v1_is_answered_by_the_protocol(
    server: Stack, thread_id: str, client: LangGraphClient
) -> None:
    await client.runs.wait(thread_id, "hitl", input={"log": ["in"]}, if_not_exists="create")
    async with watching(server.url, thread_id) as watch:
        events = await watch.ended()
        assert kinds(events)[-2:] == ["input.requested", "lifecycle interrupted"]
        await client.runs.create(thread_id, "hitl", command={"resume": "yes"})
        events = await watch.ended()
    assert kinds(events)[-1] == "lifecycle completed"
    await status_becomes(client, thread_id, "idle")
