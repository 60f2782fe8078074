"""What clients of a run's stream see: modes, ids, resumption, late joiners."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError, UnprocessableEntityError
from redis.asyncio import Redis

from durathread.streams.events import stream_key
from tests.runs.support import entered, start
from tests.stack import Stack

Parts = list[Any]


async def collect(stream: Any) -> Parts:
    return [part async for part in stream]


def names(parts: Parts) -> list[str]:
    return [part.event for part in parts]


async def test_the_default_mode_shows_values_step_by_step(client: LangGraphClient, thread_id: str) -> None:
    parts = await collect(client.runs.stream(thread_id, "agent", input={"log": ["in"]}, if_not_exists="create"))
    assert names(parts) == ["metadata", "values", "values", "values", "values", "end"]
    assert parts[0].data["attempt"] == 1
    assert [part.data["log"] for part in parts[1:-1]] == [
        ["in"],
        ["in", "a"],
        ["in", "a", "b"],
        ["in", "a", "b", "c"],
    ]
    assert parts[-1].data == {"run_id": parts[0].data["run_id"], "status": "success"}
    assert all(part.id is None for part in parts)


async def test_all_modes_come_in_the_order_of_the_reference(client: LangGraphClient, thread_id: str) -> None:
    modes: Any = ["checkpoints", "debug", "values", "tasks", "updates", "custom"]
    parts = await collect(
        client.runs.stream(thread_id, "agent", input={"log": ["in"]}, if_not_exists="create", stream_mode=modes)
    )
    step = ["tasks", "debug", "updates", "tasks", "debug", "values", "checkpoints", "debug"]
    opening = ["metadata", "checkpoints", "debug", "values", "checkpoints", "debug"]
    assert names(parts) == [*opening, *step, *step, *step, "end"]
    checkpoints = [part.data for part in parts if part.event == "checkpoints"]
    assert [item["metadata"]["step"] for item in checkpoints] == [-1, 0, 1, 2, 3]
    assert [item["next"] for item in checkpoints] == [["__start__"], ["a"], ["b"], ["c"], []]
    debug = [part.data for part in parts if part.event == "debug" and part.data["type"] == "checkpoint"]
    assert all(set(item["payload"]["checkpoint"]) >= {"thread_id", "checkpoint_id"} for item in debug)


async def test_tokens_come_as_tuples(client: LangGraphClient, thread_id: str) -> None:
    question: Any = {"messages": [{"role": "user", "content": "one two three"}]}
    parts = await collect(
        client.runs.stream(thread_id, "chat", input=question, if_not_exists="create", stream_mode=["messages-tuple"])
    )
    chunks = [part.data for part in parts if part.event == "messages"]
    assert "".join(chunk["content"] for chunk, _ in chunks) == "one two three "
    assert {chunk["type"] for chunk, _ in chunks} == {"AIMessageChunk"}
    assert len({chunk["id"] for chunk, _ in chunks}) == 1
    metadata = chunks[0][1]
    assert metadata["langgraph_node"] == "speak"
    assert metadata["thread_id"] == thread_id


async def test_tokens_come_as_messages_that_grow(client: LangGraphClient, thread_id: str) -> None:
    question: Any = {"messages": [{"role": "user", "content": "one two three"}]}
    parts = await collect(
        client.runs.stream(thread_id, "chat", input=question, if_not_exists="create", stream_mode=["messages"])
    )
    assert names(parts)[:2] == ["metadata", "messages/metadata"]
    partial = [part.data[0] for part in parts if part.event == "messages/partial"]
    assert [message["content"] for message in partial[:3]] == ["one ", "one two ", "one two three "]
    assert {message["type"] for message in partial} == {"ai"}


async def test_subgraphs_are_shown_when_asked_for(client: LangGraphClient, thread_id: str) -> None:
    question: Any = {"messages": [{"role": "user", "content": "one"}]}
    plain = await collect(
        client.runs.stream(
            thread_id, "nested_chat", input=question, if_not_exists="create", stream_mode=["updates", "custom"]
        )
    )
    assert not [name for name in names(plain) if "|" in name]
    nested = await collect(
        client.runs.stream(thread_id, "nested_chat", input=question, stream_mode=["updates"], stream_subgraphs=True)
    )
    inner = [part for part in nested if part.event.startswith("updates|sub:")]
    assert [list(part.data) for part in inner] == [["speak"]]
    assert [list(part.data) for part in nested if part.event == "updates"] == [["sub"], ["last"]]


async def test_events_of_langchain_are_streamed(client: LangGraphClient, thread_id: str) -> None:
    question: Any = {"messages": [{"role": "user", "content": "one two"}]}
    parts = await collect(
        client.runs.stream(thread_id, "chat", input=question, if_not_exists="create", stream_mode=["events"])
    )
    kinds = {part.data["event"] for part in parts if part.event == "events"}
    assert {"on_chain_start", "on_chain_end", "on_chat_model_stream"} <= kinds


@pytest.mark.parametrize("modes", [["tools"], ["lifecycle"], ["nonsense"]])
async def test_unknown_modes_are_refused(client: LangGraphClient, thread_id: str, modes: Any) -> None:
    with pytest.raises(UnprocessableEntityError):
        await collect(client.runs.stream(thread_id, "agent", input={}, if_not_exists="create", stream_mode=modes))


async def test_a_resumable_stream_replays_from_any_event(client: LangGraphClient, thread_id: str) -> None:
    parts = await collect(
        client.runs.stream(
            thread_id,
            "agent",
            input={"log": ["in"]},
            if_not_exists="create",
            stream_mode=["values", "updates", "tasks"],
            stream_resumable=True,
        )
    )
    ids = [part.id for part in parts]
    assert len(set(ids)) == len(ids)
    run_id = parts[0].data["run_id"]
    for position in (0, 3, len(parts) - 2, len(parts) - 1):
        rest = await collect(client.runs.join_stream(thread_id, run_id, last_event_id=ids[position]))
        assert [(part.event, part.data, part.id) for part in rest] == [
            (part.event, part.data, part.id) for part in parts[position + 1 :]
        ]
    for everything in ("-1", "0", "-", "0-0"):
        replay = await collect(client.runs.join_stream(thread_id, run_id, last_event_id=everything))
        assert [part.id for part in replay] == ids


async def test_a_run_whose_events_are_no_longer_kept_ends_as_it_ended(
    client: LangGraphClient, thread_id: str, environment: dict[str, str]
) -> None:
    run = await start(client, thread_id, "in", stream_resumable=True)
    await client.runs.join(thread_id, run["run_id"])
    async with Redis.from_url(environment["REDIS_URL"]) as redis:
        assert await redis.delete(stream_key(run["run_id"])) == 1
    parts = await collect(client.runs.join_stream(thread_id, run["run_id"], last_event_id="-1"))
    assert [(part.event, part.data["status"]) for part in parts] == [("end", "success")]


async def test_the_error_of_a_failed_run_is_replayed(client: LangGraphClient, thread_id: str) -> None:
    run = await start(client, thread_id, "in", do={"b": {"fail": "boom"}}, stream_resumable=True)
    parts = await collect(client.runs.join_stream(thread_id, run["run_id"], stream_mode="values"))
    assert names(parts)[-2:] == ["error", "end"]
    assert parts[-2].data == {"error": "ValueError", "message": "boom"}
    again = await collect(client.runs.join_stream(thread_id, run["run_id"], last_event_id="-1"))
    assert (again[-2].event, again[-2].data) == ("error", parts[-2].data)


async def test_a_late_joiner_gets_the_state_so_far(client: LangGraphClient, thread_id: str, tmp_path: Path) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "b"
    run = await start(client, thread_id, "in", do={"b": {"trace": str(trace), "until": str(gate)}})
    await entered(trace)
    stream = client.runs.join_stream(thread_id, run["run_id"])
    first = [await anext(stream), await anext(stream)]
    gate.touch()
    rest = await collect(stream)
    assert names(first + rest) == ["metadata", "values", "values", "values", "end"]
    assert [part.data["log"] for part in [first[1], *rest[:-1]]] == [
        ["in", "a"],
        ["in", "a", "b"],
        ["in", "a", "b", "c"],
    ]


async def test_a_late_joiner_of_a_resumable_run_gets_all_of_it(
    client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "b"
    run = await start(
        client, thread_id, "in", do={"b": {"trace": str(trace), "until": str(gate)}}, stream_resumable=True
    )
    await entered(trace)
    early, late = client.runs.join_stream(thread_id, run["run_id"]), client.runs.join_stream(thread_id, run["run_id"])
    first = await anext(early)
    gate.touch()
    seen = [first, *await collect(early)]
    assert [(part.event, part.id) for part in await collect(late)] == [(part.event, part.id) for part in seen]


async def test_joining_a_run_that_has_ended_ends_at_once(client: LangGraphClient, thread_id: str) -> None:
    run = await start(client, thread_id, "in")
    await client.runs.join(thread_id, run["run_id"])
    async with asyncio.timeout(2):
        parts = await collect(client.runs.join_stream(thread_id, run["run_id"]))
    assert names(parts) == ["metadata", "values", "end"]
    assert parts[1].data["log"] == ["in", "a", "b", "c"]


async def test_a_filter_takes_lists_in_every_encoding(client: LangGraphClient, thread_id: str, server: Stack) -> None:
    run = await start(client, thread_id, "in", stream_mode=["values", "updates", "tasks"], stream_resumable=True)
    await client.runs.join(thread_id, run["run_id"])
    path = f"{server.url}/threads/{thread_id}/runs/{run['run_id']}/stream"
    async with httpx.AsyncClient(headers={"Last-Event-ID": "-1"}) as http:
        for query in (
            "stream_mode=values&stream_mode=updates",
            'stream_mode=["values","updates"]',
            "stream_mode=values,updates",
        ):
            text = (await http.get(f"{path}?{query}")).text
            found = {line[7:] for line in text.splitlines() if line.startswith("event: ")}
            assert found == {"values", "updates", "end"}
        assert (await http.get(path, headers={"Last-Event-ID": "x"})).status_code == 422
    parts = await collect(
        client.runs.join_stream(thread_id, run["run_id"], stream_mode=["values", "tasks"], last_event_id="-1")
    )
    assert set(names(parts)) == {"values", "tasks", "end"}


async def test_the_bytes_are_those_of_the_contract(thread_id: str, server: Stack) -> None:
    body = {"assistant_id": "agent", "input": {"log": ["in"]}, "if_not_exists": "create", "stream_resumable": True}
    async with httpx.AsyncClient() as http:
        response = await http.post(f"{server.url}/threads/{thread_id}/runs/stream", json=body)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    where = response.headers["content-location"]
    assert response.headers["location"] == f"{where}/stream"
    assert where.startswith(f"/threads/{thread_id}/runs/")
    frames = response.content.split(b"\r\n\r\n")
    assert frames[-1] == b""
    for frame in frames[:-1]:
        event, data, event_id = frame.split(b"\r\n")
        assert (event[:7], data[:6], event_id[:4]) == (b"event: ", b"data: ", b"id: ")
        assert b"\n" not in data


async def test_a_quiet_stream_beats(client: LangGraphClient, thread_id: str, server: Stack, tmp_path: Path) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "b"
    run = await start(client, thread_id, "in", do={"b": {"trace": str(trace), "until": str(gate)}})
    async with (
        httpx.AsyncClient(timeout=15) as http,
        http.stream("GET", f"{server.url}/threads/{thread_id}/runs/{run['run_id']}/stream") as response,
    ):
        seen = b""
        async for part in response.aiter_raw():
            seen += part
            if b": heartbeat\r\n\r\n" in seen and not gate.exists():
                gate.touch()
    assert b": heartbeat\r\n\r\n" in seen
    assert b"event: end" in seen


async def test_a_client_that_leaves_cancels_its_run_if_it_said_so(
    client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    trace = tmp_path / "b"
    stream: Any = client.runs.stream(
        thread_id,
        "agent",
        input={"log": ["in"], "do": {"b": {"trace": str(trace), "sleep": 60}}},
        if_not_exists="create",
        on_disconnect="cancel",
    )
    await anext(stream)
    await entered(trace)
    await stream.aclose()
    [run] = await client.runs.list(thread_id)
    async with asyncio.timeout(5):
        await client.runs.join(thread_id, run["run_id"])
    assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "interrupted"


async def test_a_client_that_leaves_changes_nothing_otherwise(client: LangGraphClient, thread_id: str) -> None:
    stream: Any = client.runs.stream(
        thread_id, "agent", input={"log": ["in"], "do": {"b": {"sleep": 0.3}}}, if_not_exists="create"
    )
    await anext(stream)
    await stream.aclose()
    [run] = await client.runs.list(thread_id)
    result: Any = await client.runs.join(thread_id, run["run_id"])
    assert result["log"] == ["in", "a", "b", "c"]


async def test_an_unknown_run_is_not_found(client: LangGraphClient, thread_id: str) -> None:
    await client.threads.create(thread_id=thread_id)
    with pytest.raises(NotFoundError):
        await collect(client.runs.join_stream(thread_id, thread_id))
    with pytest.raises(httpx.HTTPStatusError) as refusal:
        await client.runs.join(thread_id, thread_id)
    assert refusal.value.response.status_code == 404
