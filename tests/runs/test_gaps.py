"""A stream that has lost events says so, and shows the state so far: v1, v2 and the stream of a thread."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from langgraph_sdk.client import LangGraphClient
from redis.asyncio import Redis

from durathread.streams.events import state_key, stream_key, thread_subject
from durathread.streams.frames import frames_subject
from tests.protocol.support import kinds, run_start, watching
from tests.runs.support import entered, start
from tests.stack import Stack


@pytest.fixture
async def redis(environment: dict[str, str]) -> AsyncIterator["Redis"]:
    """What operators, and a Valkey that is full, do something with."""
    async with Redis.from_url(environment["REDIS_URL"]) as found:
        yield found


async def forget(redis: "Redis", subject: str) -> None:
    """Lose all that is known of a stream, as a Valkey does that is flushed, or that starts without what it had."""
    assert await redis.delete(stream_key(subject), state_key(subject)) == 2


async def trim(redis: "Redis", subject: str, *, left: int) -> None:
    """Lose the oldest entries."""
    await redis.xtrim(stream_key(subject), maxlen=left, approximate=False)


async def held(client: LangGraphClient, thread_id: str, folder: Path, **options: Any) -> tuple[str, Path]:
    """Start a run whose node b waits for a gate."""
    trace, gate = folder / "b", folder / "gate"
    run = await start(client, thread_id, "in", do={"b": {"trace": str(trace), "until": str(gate)}}, **options)
    await entered(trace)
    return run["run_id"], gate


def said(parts: list[Any]) -> list[Any]:
    """Tell events briefly: gaps, states by their log, others by name."""
    return [
        "gap" if part.event == "metadata" and part.data.get("gap") else part.data.get("log", part.event)
        for part in parts
    ]


A, B, C = ["in", "a"], ["in", "a", "b"], ["in", "a", "b", "c"]


async def test_who_follows_a_stream_that_is_lost_is_told_and_shown_the_state(
    client: LangGraphClient, thread_id: str, tmp_path: Path, redis: "Redis"
) -> None:
    run_id, gate = await held(client, thread_id, tmp_path, stream_resumable=True)
    stream = client.runs.join_stream(thread_id, run_id)
    parts = [await anext(stream) for _ in range(3)]
    await forget(redis, run_id)
    gate.touch()
    parts += [part async for part in stream]
    assert said(parts[:4]) == ["metadata", ["in"], A, "gap"]
    # The newest state there is when it is looked for.
    assert said(parts[4:5])[0] in (A, B, C)
    assert said(parts[5:]) == [B, C, "end"]
    gap = parts[3]
    assert gap.data == {"run_id": run_id, "attempt": 1, "gap": True}


@pytest.mark.parametrize("last", ["1-0", "1", "seen"])
async def test_who_comes_back_with_an_id_that_is_no_longer_kept_is_told(
    client: LangGraphClient, thread_id: str, redis: "Redis", last: str
) -> None:
    run = await start(client, thread_id, "in", stream_resumable=True)
    parts = [part async for part in client.runs.join_stream(thread_id, run["run_id"])]
    assert said(parts) == ["metadata", ["in"], A, B, C, "end"]
    await trim(redis, run["run_id"], left=3)
    known = parts[1].id if last == "seen" else last
    rest = [part async for part in client.runs.join_stream(thread_id, run["run_id"], last_event_id=known)]
    assert said(rest) == ["gap", C, B, C, "end"]
    assert [part.id for part in rest[2:]] == [part.id for part in parts[3:]]
    for complete in (3, 4):
        rest = [
            part async for part in client.runs.join_stream(thread_id, run["run_id"], last_event_id=parts[complete].id)
        ]
        assert said(rest) == said(parts[complete + 1 :])


async def test_who_wants_all_of_a_run_is_told_that_the_beginning_is_missing(
    client: LangGraphClient, thread_id: str, redis: "Redis"
) -> None:
    run = await start(client, thread_id, "in", stream_resumable=True)
    await client.runs.join(thread_id, run["run_id"])
    await trim(redis, run["run_id"], left=3)
    for everything in (None, "-1"):
        parts = [part async for part in client.runs.join_stream(thread_id, run["run_id"], last_event_id=everything)]
        assert said(parts) == ["gap", C, B, C, "end"]


async def test_a_gap_is_said_whatever_modes_are_asked_for(
    client: LangGraphClient, thread_id: str, redis: "Redis"
) -> None:
    modes: Any = ["values", "updates"]
    run = await start(client, thread_id, "in", stream_resumable=True, stream_mode=modes)
    await client.runs.join(thread_id, run["run_id"])
    await trim(redis, run["run_id"], left=3)
    parts = [
        part
        async for part in client.runs.join_stream(thread_id, run["run_id"], stream_mode="updates", last_event_id="1-0")
    ]
    assert said(parts) == ["gap", "updates", "end"]


async def test_who_comes_back_when_nothing_is_kept_is_told_and_shown_what_the_run_has_left(
    client: LangGraphClient, thread_id: str, redis: "Redis"
) -> None:
    run = await start(client, thread_id, "in", stream_resumable=True)
    parts = [part async for part in client.runs.join_stream(thread_id, run["run_id"])]
    await client.runs.wait(thread_id, "agent", input={"log": ["later"]})
    await forget(redis, run["run_id"])
    rest = [part async for part in client.runs.join_stream(thread_id, run["run_id"], last_event_id=parts[2].id)]
    assert said(rest) == ["gap", C, "end"]


async def test_a_stream_that_lost_its_last_words_is_a_gap_before_its_end(
    client: LangGraphClient, thread_id: str, tmp_path: Path, redis: "Redis"
) -> None:
    """An SDK that is cut comes back with the last id that it has read."""
    run_id, gate = await held(client, thread_id, tmp_path, stream_resumable=True)
    stream: Any = client.runs.join_stream(thread_id, run_id)
    parts = [await anext(stream) for _ in range(3)]
    await stream.aclose()
    gate.touch()
    await client.runs.join(thread_id, run_id)
    await trim(redis, run_id, left=1)
    rest = [part async for part in client.runs.join_stream(thread_id, run_id, last_event_id=parts[-1].id)]
    assert said(rest) == ["gap", C, "end"]


async def test_the_stream_of_a_thread_says_what_it_has_lost(
    client: LangGraphClient, server: Stack, thread_id: str, tmp_path: Path, redis: "Redis"
) -> None:
    run_id, gate = await held(client, thread_id, tmp_path, stream_resumable=True)
    path, events = f"{server.url}/threads/{thread_id}/stream", list[tuple[str, Any]]()
    async with httpx.AsyncClient(timeout=60) as http, http.stream("GET", path) as response:
        lines = response.aiter_lines()
        async for line in lines:
            if line.startswith("event: metadata"):
                break
        await forget(redis, run_id)
        await redis.delete(stream_key(thread_subject(thread_id)))
        gate.touch()
        name = ""
        async for line in lines:
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                events.append((name, orjson.loads(value)))
                if events[-1][1].get("status") == "run_done":
                    break
        second = await start(client, thread_id, "second")
        async for line in lines:
            if line.startswith("data: "):
                events.append(("", orjson.loads(line.removeprefix("data: "))))
                if events[-1][1].get("run_id") == second["run_id"]:
                    break
    gaps = [data for _, data in events if data.get("gap")]
    assert gaps == [{"run_id": run_id, "attempt": 1, "gap": True}, {"thread_id": thread_id, "gap": True}]
    assert ("values", {"log": C, "do": {}}) not in events
    assert [data["log"] for name, data in events if name == "values"][-1] == C


async def test_the_protocol_shows_the_state_where_events_are_missing(
    client: LangGraphClient, server: Stack, thread_id: str, redis: "Redis"
) -> None:
    async with watching(server.url, thread_id, ["values", "lifecycle", "updates"]) as watch:
        run_id = await run_start(server.url, thread_id, "agent", input={"log": ["in"]})
        events = list(await watch.ended())
    await trim(redis, frames_subject(thread_id), left=3)
    kept: Any = await redis.xrange(stream_key(frames_subject(thread_id)))
    oldest = int(kept[0][0].partition(b"-")[0])
    for since in (0, events[1]["seq"]):
        async with watching(server.url, thread_id, ["values", "lifecycle"], since=since) as watch:
            begun, values, *_, over = await watch.ended(2)
        assert kinds([begun, values]) == ["lifecycle running", "values"]
        assert (values["params"]["data"]["log"], values["params"]["gap"]) == (C, True)
        assert [event["seq"] for event in (begun, values)] == [oldest - 1] * 2
        assert over["event_id"] == f"synth:{run_id}:ended"
    async with watching(server.url, thread_id, ["values", "lifecycle"], since=oldest - 1) as watch:
        assert not any("gap" in event["params"] for event in await watch.ended())


async def test_who_follows_a_thread_whose_events_are_lost_is_shown_its_state(
    server: Stack, thread_id: str, tmp_path: Path, redis: "Redis"
) -> None:
    trace, gate = tmp_path / "b", tmp_path / "gate"
    given = {"log": ["in"], "do": {"b": {"trace": str(trace), "until": str(gate)}}}
    async with watching(server.url, thread_id, ["values", "lifecycle"]) as watch:
        await run_start(server.url, thread_id, "agent", input=given)
        await entered(trace)
        await watch.until(lambda event: event["params"]["data"].get("log") == A)
        await forget(redis, frames_subject(thread_id))
        before = len(watch.events)
        gate.touch()
        after = (await watch.ended())[before:]
    gaps = [event for event in after if event["params"].get("gap")]
    assert len(gaps) == 1
    assert gaps[0]["params"]["data"]["log"] in (A, B, C)
    assert after[0]["params"]["data"]["event"] == "running"
    assert [event["params"]["data"]["log"] for event in after if event["method"] == "values"][-1] == C


async def test_python_s_client_goes_on_over_a_gap(
    client: LangGraphClient, thread_id: str, tmp_path: Path, redis: "Redis"
) -> None:
    trace, gate = tmp_path / "b", tmp_path / "gate"
    given = {"log": ["in"], "do": {"b": {"trace": str(trace), "until": str(gate)}}}
    async with client.threads.stream(thread_id, assistant_id="agent") as thread:
        await thread.run.start(input=given)
        await entered(trace)
        values = aiter(thread.values)
        seen = [await anext(values)]
        await forget(redis, frames_subject(thread_id))
        gate.touch()
        output: Any = await thread.output
        seen += [each async for each in values]
    assert output["log"] == C
    assert seen[-1]["log"] == C
