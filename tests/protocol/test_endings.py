"""Runs that are ended by others while a model speaks: what they left open is closed for whoever watches, now or later."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from durathread.db import admission
from durathread.db.pool import open_pool, transaction
from durathread.embedded.engines import Engines
from durathread.streams.frames import is_of
from tests.conftest import environment_of
from tests.eventually import eventually
from tests.protocol.support import PATIENCE, Event, Watch, data_of, is_end, kinds, run_start, watching
from tests.stack import Stack, running

Action = Literal["interrupt", "rollback"]

SLOW = "slowly " * 60
CUT = {"interrupt": "interrupted", "rollback": "rollback"}
LONG = 90.0


def asked(content: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


async def speaks(watch: Watch) -> list[Event]:
    """Wait until a model speaks slowly."""
    return await watch.until(
        lambda event: (
            (event["params"]["data"].get("delta") or {}).get("text") == "slowly "
            if event["method"] == "messages"
            else False
        )
    )


def messages_of(values: Any) -> list[Any]:
    return [message["content"] for message in values.get("messages", [])]


def open_messages(events: list[Event]) -> set[str]:
    """Name the messages that nobody has ended."""
    found = set[str]()
    for data in data_of(events, "messages"):
        if data["event"] == "message-start":
            found.add(data["id"])
        elif data["event"] in ("message-finish", "error"):
            found.remove(data["id"])
    return found


@pytest.fixture
async def lonely(engine_set: Engines, database: str, tmp_path: Path) -> AsyncIterator[Stack]:
    """A server of this test's own with one worker, that may die."""
    assert database
    async with running(environment_of(engine_set, queue=f"lonely-{tmp_path.name}"), tmp_path) as stack:
        yield stack


@pytest.mark.parametrize("starts", ["protocol", "v1"])
async def test_what_a_cancelled_run_has_said_ends_where_it_is(
    server: Stack, thread_id: str, client: LangGraphClient, starts: str
) -> None:
    async with watching(server.url, thread_id) as watch:
        if starts == "protocol":
            run_id = await run_start(server.url, thread_id, "stages", input=asked(SLOW))
        else:
            run = await client.runs.create(thread_id, "stages", input=asked(SLOW), if_not_exists="create")
            run_id = run["run_id"]
        before = list(await speaks(watch))
        await client.runs.cancel(thread_id, run_id, wait=True)
        events = await watch.ended()
    closed = [event for event in events if event["event_id"].startswith(f"{run_id}-closed")]
    assert kinds(closed) == ["messages error", "lifecycle interrupted"]
    spoken = before[-1]["params"]
    assert closed[0]["params"]["data"] == {
        "event": "error",
        "id": spoken["data"]["id"],
        "message": "The run was cancelled.",
        "code": "cancelled",
    }
    assert closed[0]["params"]["namespace"] == closed[1]["params"]["namespace"] == spoken["namespace"] != []
    assert closed[0]["params"]["node"] == spoken["node"] == "speak"
    assert events[-1]["params"]["data"] == {"event": "completed", "graph_name": "stages", "status": "interrupted"}


async def test_a_rolled_back_run_leaves_nothing_and_the_state_before_it(
    server: Stack, thread_id: str, client: LangGraphClient
) -> None:
    await client.runs.wait(thread_id, "stages", input=asked("one"), if_not_exists="create")
    state: Any = await client.threads.get_state(thread_id)
    async with watching(server.url, thread_id, since=3) as watch:
        run_id = await run_start(server.url, thread_id, "stages", input=asked(SLOW))
        await speaks(watch)
        await client.runs.cancel(thread_id, run_id, wait=True, action="rollback")
        events = await watch.ended()
    closed = [event for event in events if event["event_id"].startswith(f"{run_id}-closed")]
    assert kinds(closed) == [
        "messages content-block-finish",
        "messages error",
        "lifecycle interrupted",
        "values",
        "values",
    ]
    assert closed[0]["params"]["data"]["content"] == {"type": "text", "text": ""}
    assert closed[1]["params"]["data"]["code"] == "superseded"
    assert not open_messages(events)
    # First the messages of the run without their words, the finished one too; then none of them.
    emptied, last = data_of(closed, "values")
    assert last == state["values"]
    started = [data["id"] for data in data_of(events, "messages") if data["event"] == "message-start"]
    assert [message["id"] for message in emptied["messages"][len(last["messages"]) :]] == started
    assert len(started) >= 2
    assert set(messages_of(emptied)[len(last["messages"]) :]) == {""}
    assert events[-1]["params"]["data"] == {"event": "completed", "graph_name": "stages", "status": "rollback"}
    assert events[-2] == closed[-1]


async def test_a_late_joiner_of_a_rollback_is_told_to_drop_the_same(
    server: Stack, thread_id: str, client: LangGraphClient
) -> None:
    async with watching(server.url, thread_id) as watch:
        await run_start(server.url, thread_id, "stages", input=asked(SLOW))
        await speaks(watch)
        second = await run_start(server.url, thread_id, "stages", input=asked("two"), multitaskStrategy="rollback")
        events = await watch.ended(2)
    async with watching(server.url, thread_id) as late:
        assert await late.ended(2) == events
    # What ends comes before what begins.
    end = next(index for index, event in enumerate(events) if is_end(event))
    assert {is_of(event["event_id"], second) for event in events[: end + 1]} == {False}
    assert {is_of(event["event_id"], second) for event in events[end + 1 :]} == {True}
    assert not open_messages(events)
    # There was nothing before; the state with the new question is shown for itself, before the checkpoints.
    rest = events[end:]
    methods = [event["method"] for event in rest if event["method"] in ("checkpoints", "values")]
    assert methods[:4] == ["values", "checkpoints", "checkpoints", "values"]
    assert messages_of(data_of(rest, "values")[0]) == messages_of(data_of(rest, "values")[1]) == ["two"]
    assert data_of(events[:end], "values")[-1] == {}


@pytest.mark.parametrize(("action", "code"), [("interrupt", "cancelled"), ("rollback", "superseded")])
async def test_a_tool_that_is_cut_short_says_so(
    server: Stack, thread_id: str, client: LangGraphClient, action: Action, code: str
) -> None:
    async with watching(server.url, thread_id, ["tools", "lifecycle"]) as watch:
        run_id = await run_start(server.url, thread_id, "toolbox", input=asked("wait Rome"))
        await watch.until(lambda event: event["method"] == "tools")
        await client.runs.cancel(thread_id, run_id, action=action)
        events = await watch.ended()
    started, failed = data_of(events, "tools")
    assert failed == {**failed, "event": "tool-error", "tool_call_id": started["tool_call_id"], "code": code}


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
async def test_a_run_is_closed_although_its_worker_is_dead(lonely: Stack, thread_id: str, action: Action) -> None:
    async with (
        get_client(url=lonely.url) as client,
        watching(lonely.url, thread_id, ["messages", "lifecycle"]) as watch,
    ):
        run_id = await run_start(lonely.url, thread_id, "stages", input=asked(SLOW))
        await speaks(watch)
        await lonely.kill("worker")
        await client.runs.cancel(thread_id, run_id, action=action)
        events = await watch.ended()
    assert not open_messages(events)
    assert events[-1]["params"]["data"]["status"] == CUT[action]


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
@pytest.mark.parametrize("successor", [True, False])
async def test_a_run_is_closed_although_who_ended_it_died(
    server: Stack, database: str, thread_id: str, action: Action, successor: bool
) -> None:
    async with watching(server.url, thread_id, ["messages", "lifecycle"], patience=LONG) as watch:
        run_id = await run_start(server.url, thread_id, "stages", input=asked(f"one {SLOW}"))
        await speaks(watch)
        # All that an API did which died right behind its transaction.
        async with open_pool(database, size=2) as pool, transaction(pool) as conn:
            await admission.cancel(conn, UUID(thread_id), run_ids=[UUID(run_id)], action=action, reason="test")
        if successor:
            await run_start(server.url, thread_id, "chat", input=asked("two"))
        events = await watch.ended(1 + successor)
    assert not open_messages(events)
    assert next(event["params"]["data"].get("status") for event in events if is_end(event)) == CUT[action]
    roots = [data["event"] for data in data_of(events, "lifecycle", [])]
    assert roots == ["running", "completed"] * (1 + successor)


@pytest.mark.parametrize("transport", ["sse", "websocket"])
@pytest.mark.parametrize("action", ["interrupt", "rollback"])
async def test_the_sdk_comes_back_from_a_run_that_was_cut(
    client: LangGraphClient, thread_id: str, transport: Any, action: Action
) -> None:
    await client.runs.wait(thread_id, "chat", input=asked("before"), if_not_exists="create")
    opened: Any = client.threads.stream(thread_id, assistant_id="chat", transport=transport)
    async with opened as thread, asyncio.timeout(PATIENCE):
        run = await thread.run.start(input=asked(SLOW))
        messages = list[Any]()

        async def collect() -> None:
            async for message in thread.messages:
                messages.append(message)

        async def heard() -> bool:
            return bool(messages)

        collecting = asyncio.create_task(collect())
        await eventually(heard, timeout=PATIENCE)
        assert await anext(aiter(messages[0].text)) == "slowly "
        await client.runs.cancel(thread_id, run["run_id"], action=action)
        await collecting
        # The messages ended with the run.
        with pytest.raises(RuntimeError, match="rolled back" if action == "rollback" else "cancelled"):
            await messages[0].text
        output = await thread.output
    question = [] if action == "rollback" else [SLOW]
    assert messages_of(output) == ["before", "before ", *question]


async def test_a_run_that_rests_without_a_question_is_complete(
    server: Stack, thread_id: str, client: LangGraphClient
) -> None:
    async with watching(server.url, thread_id, ["lifecycle"]) as watch:
        await client.runs.create(thread_id, "agent", input={"log": []}, interrupt_before=["b"], if_not_exists="create")
        assert kinds(await watch.ended()) == ["lifecycle running", "lifecycle completed"]


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
async def test_the_sdk_does_not_wait_for_a_run_that_was_cancelled_before_it_began(
    lonely: Stack, thread_id: str, action: Action
) -> None:
    await lonely.kill("worker")
    async with (
        get_client(url=lonely.url) as client,
        watching(lonely.url, thread_id, ["lifecycle"]) as watch,
        client.threads.stream(thread_id, assistant_id="chat") as thread,
        asyncio.timeout(PATIENCE),
    ):
        first = await thread.run.start(input=asked("one"))
        queued = await thread.run.start(input=asked("two"))
        # Another has its turn, and will speak for itself: of this one there is nothing to say.
        await client.runs.cancel(thread_id, queued["run_id"], action=action)
        await client.runs.cancel(thread_id, first["run_id"], action=action)
        output = await thread.output
        events = await watch.ended()
    assert messages_of(output or {}) == []
    assert [(data["event"], data.get("status")) for data in data_of(events, "lifecycle")] == [
        ("running", None),
        ("completed", CUT[action]),
    ]
    assert all(is_of(event["event_id"], first["run_id"]) for event in events)
