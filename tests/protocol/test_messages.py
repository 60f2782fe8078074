"""Messages of every kind, by the streaming protocol: reasoning, calls of tools, results, and messages nobody streamed."""

from pathlib import Path
from typing import Any

from tests.protocol.support import Event, data_of, kinds, run_start, watching
from tests.stack import Stack


def asked(content: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


def by_id(events: list[Event]) -> dict[str, list[Any]]:
    """Sort what is said of messages by their id."""
    found: dict[str, list[Any]] = {}
    for data in data_of(events, "messages"):
        found.setdefault(data["id"], []).append(data)
    return found


async def test_an_agent_thinks_calls_and_answers(server: Stack, thread_id: str) -> None:
    async with watching(server.url, thread_id, ["messages", "tools", "lifecycle"]) as watch:
        await run_start(server.url, thread_id, "toolbox", input=asked("weather Rome"))
        events = await watch.ended()
    calling, result, answer = by_id(events).values()
    assert [item["event"] for item in calling] == [
        "message-start",
        "content-block-start",
        "content-block-delta",
        "content-block-delta",
        "content-block-start",
        "content-block-delta",
        "content-block-delta",
        "content-block-finish",
        "content-block-finish",
        "message-finish",
    ]
    assert [item["index"] for item in calling[1:-1]] == [0, 0, 0, 1, 1, 1, 0, 1]
    assert calling[2]["delta"] == {"type": "reasoning-delta", "reasoning": "Let me "}
    assert calling[4]["content"]["name"] == "weather"
    assert calling[5]["delta"] == {"type": "tool-call-delta", "args": '{"city": '}
    assert calling[-3]["content"] == {"type": "reasoning", "reasoning": "Let me weather"}
    assert calling[-2]["content"] == {"type": "tool_call", "id": "call_1", "name": "weather", "args": {"city": "Rome"}}
    assert calling[-1]["usage"] == {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    assert (result[0]["role"], result[0]["tool_call_id"]) == ("tool", "call_1")
    assert data_of(events, "messages", ["tools:call_1"]) == result
    assert {item["role"] for item in data_of(events, "messages", []) if item["event"] == "message-start"} == {"ai"}
    assert result[-2]["content"]["text"] == "sunny in Rome"
    assert answer[-2]["content"] == {"type": "text", "text": "It is sunny in Rome"}
    assert [(item["event"], item.get("delta")) for item in data_of(events, "tools")] == [
        ("tool-started", None),
        ("tool-output-delta", "looking"),
        ("tool-output-delta", "…"),
        ("tool-finished", None),
    ]
    assert {item["tool_call_id"] for item in data_of(events, "tools")} == {"call_1"}


async def test_a_tool_that_fails_says_so(server: Stack, thread_id: str) -> None:
    async with watching(server.url, thread_id, ["tools", "lifecycle"]) as watch:
        await run_start(server.url, thread_id, "toolbox", input=asked("broken Rome"))
        events = await watch.ended()
    assert kinds(events)[1:-1] == ["tools tool-started", "tools tool-error"]
    assert data_of(events, "tools")[1]["message"] == "no window in Rome"


async def test_messages_that_nobody_streamed(server: Stack, thread_id: str) -> None:
    async with watching(server.url, thread_id, ["messages", "lifecycle"]) as watch:
        await run_start(server.url, thread_id, "whole", input=asked("x"))
        events = await watch.ended()
    aside, answer = by_id(events).values()
    whole = [
        "message-start",
        "content-block-start",
        "content-block-delta",
        "content-block-finish",
        "message-finish",
    ]
    assert [item["event"] for item in aside] == [item["event"] for item in answer] == whole
    assert (aside[0]["role"], answer[0]["role"]) == ("human", "ai")
    assert (aside[0]["id"], answer[0]["id"]) == ("h1", "a1")
    assert answer[3]["content"] == {"type": "text", "text": "answer"}


async def test_named_payloads_have_a_channel_of_their_own(server: Stack, thread_id: str) -> None:
    async with watching(server.url, thread_id, ["custom:progress", "lifecycle"]) as watch:
        await run_start(server.url, thread_id, "toolbox", input=asked("weather Rome"))
        named = await watch.ended()
    assert data_of(named, "custom") == [{"name": "progress", "payload": {"asked": count}} for count in (1, 3)]
    async with watching(server.url, thread_id, ["custom", "lifecycle"]) as watch:
        everything = await watch.ended()
    assert data_of(everything, "custom") == [
        data for count in (1, 3) for data in ({"name": "progress", "payload": {"asked": count}}, {"payload": "asked"})
    ]


async def test_an_answer_that_was_given_up_is_taken_back(server: Stack, thread_id: str, tmp_path: Path) -> None:
    async with watching(server.url, thread_id, ["messages", "lifecycle"]) as watch:
        await run_start(server.url, thread_id, "patient", input=asked(str(tmp_path / "first")))
        events = await watch.ended()
    given_up, answer = by_id(events).values()
    assert given_up[-2]["content"] == {"type": "text", "text": ""}
    assert (given_up[-1]["event"], given_up[-1]["code"]) == ("error", "superseded")
    assert answer[-1]["event"] == "message-finish"
    assert answer[-2]["content"]["text"] == "0 1 2 3 4 5 6 7 8 9 "
