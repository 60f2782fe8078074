"""What clients of a run's stream see: modes, ids, resumption, late joiners."""

import asyncio
import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError, UnprocessableEntityError
from redis.asyncio import Redis

from durathread.streams.events import stream_key
from tests.protocol.support import watching
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


async def test_the_events_of_a_graph_have_one_beginning_and_one_end(client: LangGraphClient, thread_id: str) -> None:
    modes: Any = ["events", "values"]
    parts = await collect(
        client.runs.stream(thread_id, "agent", input={"log": ["in"]}, if_not_exists="create", stream_mode=modes)
    )
    events = [part.data for part in parts if part.event == "events"]
    of_graph = [event for event in events if not event["parent_ids"]]
    assert {event["run_id"] for event in of_graph} == {parts[0].data["run_id"]}
    assert [event["event"] for event in of_graph] == ["on_chain_start", *["on_chain_stream"] * 4, "on_chain_end"]
    values = [part.data for part in parts if part.event == "values"]
    assert [event["data"]["chunk"] for event in of_graph[1:-1]] == [["values", shown] for shown in values]
    assert [event["name"] for event in events if event["parent_ids"] and event["event"] == "on_chain_start"] == [
        "a",
        "b",
        "c",
    ]


@pytest.mark.parametrize("where", ["secret", "tool"])
async def test_no_mode_shows_the_text_of_a_failure_that_is_masked(
    client: LangGraphClient, thread_id: str, where: str
) -> None:
    modes: Any = ["tasks", "debug", "checkpoints", "events", "updates", "values"]
    inputs: list[Any] = [{"log": [where]}, None]
    for given in inputs:
        parts = await collect(
            client.runs.stream(thread_id, "failing", input=given, if_not_exists="create", stream_mode=modes)
        )
        assert "swordfish" not in str([part.data for part in parts])
        ends = [part.data for part in parts if part.event == "tasks" and part.data.get("error")]
        assert [(end["name"], end["error"]) for end in ends] == [("second", "An internal error occurred")]
        of_tools = [part.data for part in parts if part.event == "events" and part.data["event"] == "on_tool_error"]
        told = ["Secret('An internal error occurred')"] if where == "tool" else []
        assert [event["data"]["error"] for event in of_tools] == told


async def test_tools_tell_of_their_calls(client: LangGraphClient, thread_id: str) -> None:
    question: Any = {"messages": [{"role": "user", "content": "weather Berlin"}]}
    parts = await collect(
        client.runs.stream(thread_id, "toolbox", input=question, if_not_exists="create", stream_mode="tools")
    )
    assert names(parts) == ["metadata", *["tools"] * 4, "end"]
    told = [part.data for part in parts[1:-1]]
    assert {(event["toolCallId"], event["name"]) for event in told} == {("call_1", "weather")}
    assert [event["event"] for event in told] == ["on_tool_start", "on_tool_event", "on_tool_event", "on_tool_end"]
    assert told[0]["input"] == {"city": "Berlin"}
    assert [event["data"] for event in told[1:3]] == ["looking", "…"]
    assert told[3]["output"]["content"] == "sunny in Berlin"


async def test_a_tool_tells_of_its_failure(client: LangGraphClient, thread_id: str) -> None:
    question: Any = {"messages": [{"role": "user", "content": "broken Berlin"}]}
    parts = await collect(
        client.runs.stream(thread_id, "toolbox", input=question, if_not_exists="create", stream_mode=["tools"])
    )
    failure = {"event": "on_tool_error", "toolCallId": "call_1", "name": "broken", "error": "no window in Berlin"}
    assert parts[2].data == failure


async def test_subgraphs_tell_when_they_begin_and_end(client: LangGraphClient, thread_id: str) -> None:
    async def lifecycle(**kwargs: Any) -> Parts:
        parts = await collect(
            client.runs.stream(thread_id, "nested_hitl", if_not_exists="create", stream_mode="lifecycle", **kwargs)
        )
        return [(part.event, part.data) for part in parts if part.event.startswith("lifecycle")]

    (began, first), (paused, second) = await lifecycle(input={"log": []})
    (space,) = first["namespace"]
    assert space.startswith("sub:")
    assert began == paused == f"lifecycle|{space}"
    assert (first, second) == (
        {"event": "started", "namespace": [space]},
        {"event": "interrupted", "namespace": [space]},
    )
    again = await lifecycle(command={"resume": "yes"})
    assert [data["event"] for _, data in again] == ["started", "completed"]


@pytest.mark.parametrize("modes", [["nonsense"], "nonsense", ["values", "nonsense"]])
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


async def test_who_comes_back_behind_what_has_been_hinders_nobody(
    client: LangGraphClient, server: Stack, thread_id: str, tmp_path: Path
) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "b"
    do = {"b": {"trace": str(trace), "until": str(gate)}}
    run_id = (await start(client, thread_id, "in", do=do, stream_resumable=True))["run_id"]
    await entered(trace)
    path, ahead = f"{server.url}/threads/{thread_id}/runs/{run_id}/stream", ("9999999999999-0", "9" * 30)
    async with httpx.AsyncClient(timeout=30) as http, AsyncExitStack() as stack:
        streams = [http.stream("GET", path, headers={"Last-Event-ID": beyond}) for beyond in ahead]
        far = [(await stack.enter_async_context(stream)).aiter_lines() for stream in streams]
        # Who gets a heartbeat waits for events.
        assert [await anext(lines) for lines in far] == [": heartbeat"] * 2
        near = client.runs.join_stream(thread_id, run_id, last_event_id="-1")
        seen = [await anext(near) for _ in range(3)]
        gate.touch()
        seen += await collect(near)
        found = [[line.removeprefix("id: ") async for line in lines if line.startswith("id: ")] for lines in far]
    assert names(seen) == ["metadata", "values", "values", "values", "values", "end"]
    assert found == [[part.id for part in seen[3:-1]]] * 2
    for beyond in ahead:
        assert await collect(client.runs.join_stream(thread_id, run_id, last_event_id=beyond)) == []


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
    async with asyncio.timeout(20):
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
            assert found == {"metadata", "values", "updates"}
        for wrong in ("x", "1-2-3", "-2", "1-*"):
            ignoring = await http.get(path, headers={"Last-Event-ID": wrong})
            assert ignoring.headers["warning"].startswith('299 - "Invalid Last-Event-ID')
            assert ignoring.text == (await http.get(path, headers={"Last-Event-ID": ""})).text
        assert (await http.get(path, headers={"Last-Event-ID": ""})).text == (await http.get(path)).text
    parts = await collect(
        client.runs.join_stream(thread_id, run["run_id"], stream_mode=["values", "tasks"], last_event_id="-1")
    )
    assert set(names(parts)) == {"metadata", "values", "tasks", "end"}


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
    assert seen.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("agent", "query", "ends"),
    [
        ("langgraph-sdk-py/0.4.14", "", True),
        ("proxy/1 langgraph-sdk-py/1.0.0", "", True),
        ("langgraph-sdk-py/0.4.13", "", False),
        ("langgraph-sdk-py/0.3.20", "", False),
        ("python-httpx/0.28.1", "", False),
        ("node", "", False),
        ("node", "stream_end=true", True),
        ("node", "stream_end=false", False),
    ],
)
async def test_only_clients_that_know_it_are_sent_an_end(
    thread_id: str, server: Stack, agent: str, query: str, *, ends: bool
) -> None:
    body = {"assistant_id": "agent", "input": {"log": ["in"]}, "if_not_exists": "create", "stream_resumable": True}
    headers = {"User-Agent": agent}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, params=query) as http:
        streamed = await http.post(f"/threads/{thread_id}/runs/stream", json=body)
        stateless = await http.post("/runs/stream", json=body)
        joined = [
            await http.get(response.headers["location"], headers={"Last-Event-ID": "-1"})
            for response in (streamed, stateless)
        ]
        by_id = await http.get(f"{stateless.headers['content-location']}/stream", headers={"Last-Event-ID": "-1"})
    last = "end" if ends else "values"
    for response in (streamed, stateless, *joined, by_id):
        assert re.findall(r"event: (\w+)", response.text)[-1] == last
        assert response.content.endswith(b"}\r\n\r\n") or re.search(rb"id: [0-9-]+\r\n\r\n$", response.content)


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
    async with asyncio.timeout(30):
        await client.runs.join(thread_id, run["run_id"])
    assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "interrupted"


async def test_a_client_that_leaves_changes_nothing_otherwise(
    client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    stream: Any = client.runs.stream(
        thread_id, "agent", input={"log": ["in"], "do": {"b": {"until": str(gate)}}}, if_not_exists="create"
    )
    await anext(stream)
    await stream.aclose()
    gate.touch()
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


async def test_a_client_that_has_seen_the_end_sees_the_thread_at_rest(
    client: LangGraphClient, server: Stack, tmp_path: Path
) -> None:
    async def rest(thread_id: str) -> str:
        return (await client.threads.get(thread_id))["status"]

    async def joined(thread_id: str, run_id: str) -> str:
        await client.runs.join(thread_id, run_id)
        return await rest(thread_id)

    async def streamed(thread_id: str, run_id: str) -> str:
        async for _ in client.runs.join_stream(thread_id, run_id):
            pass
        return await rest(thread_id)

    async def followed(thread_id: str, run_id: str) -> str:
        async for part in await client.threads.join_stream(thread_id, last_event_id="-"):
            if part.event == "metadata" and part.data.get("status") == "run_done":
                break
        return await rest(thread_id)

    async def watched(thread_id: str, run_id: str) -> str:
        async with watching(server.url, thread_id, ["lifecycle"]) as watch:
            await watch.ended()
        return await rest(thread_id)

    for how in ("finishes", "is cancelled"):
        threads = [str(uuid4()) for _ in range(4)]
        gate = tmp_path / f"{how} gate"
        started: list[str] = []
        for number, thread_id in enumerate(threads):
            trace = tmp_path / f"{how}{number}"
            cleanup = str(tmp_path / f"{how} cleaned")
            do = {"b": {"trace": str(trace), "until": str(gate), "finally_until": cleanup}}
            started.append((await start(client, thread_id, "in", do=do))["run_id"])
            await entered(trace)
        waiting = [
            asyncio.create_task(see(thread_id, run_id))
            for see, thread_id, run_id in zip((joined, streamed, followed, watched), threads, started, strict=True)
        ]
        if how == "finishes":
            gate.touch()
        else:
            for thread_id, run_id in zip(threads, started, strict=True):
                await client.runs.cancel(thread_id, run_id)
        (tmp_path / f"{how} cleaned").touch()
        expected = "idle" if how == "finishes" else "interrupted"
        assert await asyncio.gather(*waiting) == [expected] * 4


async def test_an_unknown_run_is_named_wherever_it_is_asked_for(client: LangGraphClient, server: Stack) -> None:
    thread_id = (await client.threads.create())["thread_id"]
    run_id = str(uuid4())
    path = f"/threads/{thread_id}/runs/{run_id}"
    async with httpx.AsyncClient(base_url=server.url) as http:
        answers = [
            *[await http.get(f"{path}{rest}") for rest in ("", "/join", "/stream")],
            await http.get(f"/runs/{run_id}/stream"),
            await http.post(f"{path}/cancel"),
            await http.delete(path),
        ]
    assert {answer.status_code for answer in answers} == {404}
    assert [answer for answer in answers if run_id not in answer.json()["detail"]] == []


async def test_the_state_of_a_thread_in_flight_never_looks_idle(
    client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    for number in range(2):
        await start(client, thread_id, f"r{number}", do={"c": {"until": str(gate)}})
        assert (await client.threads.get_state(thread_id))["next"] != []
    gate.touch()
    while (state := await client.threads.get_state(thread_id))["next"]:
        assert state["next"]
    assert (await client.threads.get(thread_id))["status"] == "idle"
    assert [run["status"] for run in await client.runs.list(thread_id)] == ["success"] * 2
