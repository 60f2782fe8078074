"""What clients of a thread's stream see: all runs in order, ids to come back with, updates of the state."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError, UnprocessableEntityError

from durathread.streams.thread_markers import LAST, entry_id, number, parse
from tests.eventually import eventually
from tests.runs.support import entered, start
from tests.stack import Stack


@dataclass(frozen=True)
class Part:
    """One event."""

    name: str
    data: Any
    at: str

    @property
    def order(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.at.split("-"))


@dataclass
class Watcher:
    """A client that is connected, and what it has seen."""

    response: httpx.Response
    parts: list[Part] = field(default_factory=list[Part])
    over: bool = False

    async def read(self) -> None:
        fields: dict[str, str] = {}
        async for line in self.response.aiter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
                continue
            if "event" in fields:
                self.parts.append(Part(fields["event"], orjson.loads(fields["data"]), fields["id"]))
            fields = {}
        self.over = True

    async def sees(self, enough: Callable[[Sequence[Part]], bool]) -> list[Part]:
        async def check() -> bool:
            return enough(self.parts)

        await eventually(check, what=f"{[(part.name, part.data) for part in self.parts]}")
        return list(self.parts)

    async def sees_done(self, *run_ids: str) -> list[Part]:
        return await self.sees(lambda parts: set(run_ids) <= {run for run, what in story(parts) if what == "done"})


def story(parts: Sequence[Part]) -> list[tuple[str, str]]:
    """Tell what happened to which run."""
    told: list[tuple[str, str]] = []
    for part in parts:
        if part.name != "metadata":
            told.append((told[-1][0] if told else "", part.name))
        elif part.data.get("status") == "run_done":
            told.append((part.data["run_id"], "done"))
        else:
            told.append((part.data["run_id"], f"begun {part.data['attempt']}"))
    return told


def assert_increasing(parts: Sequence[Part]) -> None:
    assert all(before.order < after.order for before, after in pairwise(parts)), [part.at for part in parts]


@asynccontextmanager
async def watching(
    server: Stack, thread_id: str, *, after: str | None = None, modes: Any = None, name: str = "stream_modes"
) -> AsyncGenerator[Watcher]:
    """Connect; everything from here on is seen."""
    headers = {"last-event-id": after} if after is not None else {}
    params = {name: modes} if modes is not None else {}
    async with (
        httpx.AsyncClient(base_url=server.url, timeout=30) as http,
        http.stream("GET", f"/threads/{thread_id}/stream", headers=headers, params=params) as response,
    ):
        assert response.status_code == 200, await response.aread()
        watcher = Watcher(response)
        reading = asyncio.create_task(watcher.read())
        try:
            yield watcher
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


@pytest.fixture
async def thread(client: LangGraphClient) -> str:
    """A thread without runs."""
    return (await client.threads.create(graph_id="agent"))["thread_id"]


VALUES = ["begun 1", "values", "values", "values", "values", "done"]


async def test_runs_are_shown_one_after_the_other(client: LangGraphClient, server: Stack, thread: str) -> None:
    async with watching(server, thread) as watcher:
        runs = [(await start(client, thread, f"r{n}"))["run_id"] for n in range(3)]
        parts = await watcher.sees_done(*runs)
    assert story(parts) == [(run, what) for run in runs for what in VALUES]
    assert_increasing(parts)
    assert parts[1].data["log"] == ["r0"]
    assert parts[-2].data["log"][-1] == "c"


async def test_runs_that_follow_each_other_closely_have_ids_of_their_own(
    client: LangGraphClient, server: Stack, thread: str
) -> None:
    async with watching(server, thread) as watcher:
        runs = [(await start(client, thread, f"r{n}", stream_mode=["debug", "values"]))["run_id"] for n in range(15)]
        parts = await watcher.sees_done(*runs)
    assert [run for run, what in story(parts) if what == "done"] == runs
    assert_increasing(parts)


async def test_a_client_that_comes_late_sees_what_happens_from_then_on(
    client: LangGraphClient, server: Stack, thread: str, tmp_path: Path
) -> None:
    before = await start(client, thread, "r0")
    await client.runs.join(thread, before["run_id"])
    do = {"b": {"trace": str(tmp_path / "b"), "until": str(tmp_path / "go")}}
    run = (await start(client, thread, "r1", do=do))["run_id"]
    await entered(tmp_path / "b")
    async with watching(server, thread) as watcher:
        (tmp_path / "go").touch()
        parts = await watcher.sees_done(run)
    assert story(parts) == [(run, what) for what in ("begun 1", "values", "values", "done")]
    assert [part.data["log"][-1] for part in parts if part.name == "values"] == ["b", "c"]
    assert_increasing(parts)


async def test_a_client_comes_back_behind_any_event(client: LangGraphClient, server: Stack, thread: str) -> None:
    async with watching(server, thread) as watcher:
        runs = [(await start(client, thread, f"r{n}", stream_resumable=True))["run_id"] for n in range(3)]
        parts = await watcher.sees_done(*runs)
    for position, part in enumerate(parts[:-1]):
        async with watching(server, thread, after=part.at) as again:
            rest = await again.sees_done(runs[-1])
        assert rest == parts[position + 1 :]


@pytest.mark.parametrize("beginning", ["-", "0", "0-0"])
async def test_a_client_asks_for_everything(
    client: LangGraphClient, server: Stack, thread: str, beginning: str
) -> None:
    runs = [(await start(client, thread, f"r{n}", stream_resumable=True))["run_id"] for n in range(2)]
    await client.runs.join(thread, runs[-1])
    async with watching(server, thread, after=beginning) as watcher:
        late = (await start(client, thread, "r2"))["run_id"]
        parts = await watcher.sees_done(*runs, late)
    assert story(parts) == [(run, what) for run in (*runs, late) for what in VALUES]
    assert_increasing(parts)


async def test_ids_of_a_runs_stream_are_moments(client: LangGraphClient, server: Stack, thread: str) -> None:
    kwargs: Any = {"input": {"log": ["r"]}, "stream_resumable": True}
    parts = [part async for part in client.runs.stream(thread, "agent", **kwargs)]
    run = parts[0].data["run_id"]
    async with watching(server, thread, after=parts[2].id) as watcher:
        rest = await watcher.sees_done(run)
    assert [part.data for part in rest if part.name == "values"] == [part.data for part in parts[3:-1]]


async def test_of_the_past_only_resumable_runs_show_their_events(
    client: LangGraphClient, server: Stack, thread: str, tmp_path: Path
) -> None:
    kept = (await start(client, thread, "r0", stream_resumable=True))["run_id"]
    lost = (await start(client, thread, "r1"))["run_id"]
    do = {"b": {"trace": str(tmp_path / "b"), "until": str(tmp_path / "go")}}
    current = (await start(client, thread, "r2", do=do))["run_id"]
    await entered(tmp_path / "b")
    async with watching(server, thread, after="-") as watcher:
        await watcher.sees(lambda parts: (current, "begun 1") in story(parts))
        (tmp_path / "go").touch()
        parts = await watcher.sees_done(current)
    shown = [(kept, what) for what in VALUES] + [(lost, "begun 1"), (lost, "done")]
    assert story(parts) == [*shown, *((current, what) for what in ("begun 1", "values", "values", "done"))]
    assert_increasing(parts)


async def test_lifecycle_shows_when_runs_begin_and_end(client: LangGraphClient, server: Stack, thread: str) -> None:
    async with watching(server, thread, modes="lifecycle") as watcher:
        run = (await start(client, thread, "r1"))["run_id"]
        failing = (await start(client, thread, "r2", do={"b": {"fail": "kaboom"}}))["run_id"]
        parts = await watcher.sees_done(run, failing)
    assert [(part.name, part.data) for part in parts] == [
        ("metadata", {"run_id": run, "attempt": 1}),
        ("metadata", {"status": "run_done", "run_id": run}),
        ("metadata", {"run_id": failing, "attempt": 1}),
        ("metadata", {"status": "run_done", "run_id": failing}),
    ]


async def test_a_failure_is_shown_before_the_end(client: LangGraphClient, server: Stack, thread: str) -> None:
    async with watching(server, thread) as watcher:
        run = (await start(client, thread, "r1", do={"a": {"fail": "kaboom"}}))["run_id"]
        parts = await watcher.sees_done(run)
    assert [what for _, what in story(parts)] == ["begun 1", "values", "error", "done"]
    assert parts[2].data == {"error": "ValueError", "message": "kaboom"}


@pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
async def test_a_superseded_run_ends_before_its_successor_begins(
    client: LangGraphClient, server: Stack, thread: str, tmp_path: Path, strategy: Any
) -> None:
    async with watching(server, thread, modes="lifecycle") as watcher:
        first = (await start(client, thread, "r1", do={"b": {"trace": str(tmp_path / "b"), "sleep": 30}}))["run_id"]
        await entered(tmp_path / "b")
        queued = (await start(client, thread, "r2"))["run_id"]
        last = (await start(client, thread, "r3", multitask_strategy=strategy))["run_id"]
        parts = await watcher.sees_done(first, queued, last)
    told = story(parts)
    assert told[:2] == [(first, "begun 1"), (first, "done")]
    assert [what for what in told if what[0] == queued] == [(queued, "done")]
    assert [what for what in told if what[0] == last] == [(last, "begun 1"), (last, "done")]
    assert_increasing(parts)
    async with watching(server, thread, modes="lifecycle", after="-") as again:
        assert await again.sees_done(last, queued) == parts


async def test_a_queued_run_that_is_cancelled_is_done(client: LangGraphClient, server: Stack, thread: str) -> None:
    async with watching(server, thread) as watcher:
        run = (await start(client, thread, "r1", after_seconds=3600))["run_id"]
        await client.runs.cancel(thread, run)
        parts = await watcher.sees_done(run)
    assert story(parts) == [(run, "done")]


async def test_updates_of_the_state_are_shown(client: LangGraphClient, server: Stack, thread: str) -> None:
    async with watching(server, thread, modes=["state_update", "lifecycle"]) as watcher:
        for label in ("x", "y"):
            await client.threads.update_state(thread, {"log": [label]}, as_node="a")
        run = (await start(client, thread, "r1"))["run_id"]
        parts = await watcher.sees_done(run)
    assert [part.name for part in parts] == ["state_update", "state_update", "metadata", "metadata"]
    assert_increasing(parts)
    assert [part.data["thread_id"] for part in parts[:2]] == [thread, thread]
    assert [part.data["state"]["values"]["log"] for part in parts[:2]] == [["x"], ["x", "y"]]
    history = await client.threads.get_history(thread, limit=100)
    assert parts[1].data["state"] in history
    async with watching(server, thread, modes="state_update", after=parts[0].at) as again:
        assert await again.sees(lambda seen: len(seen) == 1) == parts[1:2]
    async with watching(server, thread, after="-") as plain:
        assert [part.name for part in await plain.sees_done(run)] == ["metadata", "metadata"]


async def test_the_history_that_a_thread_begins_with_is_an_update(client: LangGraphClient, server: Stack) -> None:
    steps: Any = [{"updates": [{"values": {"log": ["x"]}, "as_node": "a"}]}]
    thread = (await client.threads.create(graph_id="agent", supersteps=steps))["thread_id"]
    async with watching(server, thread, modes="state_update", after="-") as watcher:
        [part] = await watcher.sees(lambda parts: len(parts) == 1)
    assert part.data["state"]["values"]["log"] == ["x"]


@pytest.mark.parametrize("name", ["stream_mode", "stream_modes"])
@pytest.mark.parametrize(
    "modes", [["lifecycle", "state_update"], "lifecycle,state_update", '["lifecycle","state_update"]']
)
async def test_modes_are_read_however_they_are_sent(
    client: LangGraphClient, server: Stack, thread: str, name: str, modes: Any
) -> None:
    async with watching(server, thread, modes=modes, name=name) as watcher:
        await client.threads.update_state(thread, {"log": ["x"]}, as_node="a")
        run = (await start(client, thread, "r1"))["run_id"]
        parts = await watcher.sees_done(run)
    assert [part.name for part in parts] == ["state_update", "metadata", "metadata"]


async def test_many_clients_see_the_same(client: LangGraphClient, server: Stack, thread: str) -> None:
    async with watching(server, thread) as one, watching(server, thread) as two, watching(server, thread) as three:
        runs = [(await start(client, thread, f"r{n}"))["run_id"] for n in range(3)]
        first = await one.sees_done(*runs)
        assert await two.sees_done(*runs) == first
        assert await three.sees_done(*runs) == first


async def test_the_sdk_follows_a_thread(client: LangGraphClient, thread: str) -> None:
    run = (await start(client, thread, "r1", stream_resumable=True))["run_id"]
    seen: list[Any] = []
    modes: Any = ["run_modes", "state_update"]
    async for part in await client.threads.join_stream(thread, last_event_id="-", stream_mode=modes):
        seen.append(part)
        if part.event == "metadata" and part.data.get("status") == "run_done":
            break
    assert [part.event for part in seen] == ["metadata", "values", "values", "values", "values", "metadata"]
    assert seen[-1].data == {"status": "run_done", "run_id": run}
    assert all(part.id for part in seen)


async def test_the_stream_of_a_deleted_thread_ends(client: LangGraphClient, server: Stack, thread: str) -> None:
    async with watching(server, thread) as watcher:
        run = (await start(client, thread, "r1"))["run_id"]
        await watcher.sees_done(run)
        await client.threads.delete(thread)

        async def over() -> bool:
            return watcher.over

        await eventually(over, what="the stream has ended")


async def test_a_quiet_stream_beats(server: Stack, thread: str) -> None:
    async with (
        httpx.AsyncClient(base_url=server.url, timeout=30) as http,
        http.stream("GET", f"/threads/{thread}/stream") as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        async with asyncio.timeout(60):
            assert await anext(response.aiter_lines()) == ": heartbeat"


async def test_a_retried_run_is_shown_once(client: LangGraphClient, server: Stack, thread: str, tmp_path: Path) -> None:
    run = (await start(client, thread, "r1", do={"b": {"trace": str(tmp_path / "b"), "sleep": 30}}))["run_id"]
    await entered(tmp_path / "b")
    async with watching(server, thread, modes="lifecycle") as watcher:
        starts = server.log("worker").count("The worker is ready")
        await server.kill("worker")
        await server.start("worker")
        await server.worker_ready(times=starts + 1)
        await entered(tmp_path / "b", 2)
        await client.runs.cancel(thread, run)
        after = (await start(client, thread, "r2"))["run_id"]
        parts = await watcher.sees_done(run, after)
    begun = [(run, "begun 1"), (run, "begun 2"), (run, "done")]
    assert story(parts) == [*begun, (after, "begun 1"), (after, "done")]
    assert_increasing(parts)


async def test_what_cannot_be_followed_is_refused(client: LangGraphClient, thread: str) -> None:
    async def join(thread_id: str, **kwargs: Any) -> None:
        async for _ in await client.threads.join_stream(thread_id, **kwargs):
            raise AssertionError("an event came")

    with pytest.raises(NotFoundError):
        await join(str(uuid4()))
    with pytest.raises(UnprocessableEntityError):
        await join("nope")
    with pytest.raises(UnprocessableEntityError, match="lifecycles"):
        await join(thread, stream_mode="lifecycles")


async def test_an_id_that_no_event_has_is_ignored_with_a_warning(server: Stack, thread: str) -> None:
    async with httpx.AsyncClient(base_url=server.url) as http:
        for wrong in ("x", "1-x", "1-2-3", "-1", "-2", "1" * 30, "*"):
            asking = http.stream("GET", f"/threads/{thread}/stream", headers={"Last-Event-ID": wrong})
            async with asking as response:
                assert response.status_code == 200
                assert response.headers["warning"].startswith('299 - "Invalid Last-Event-ID')


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("-", (0, 0)),
        ("1795396560397", (1795396560397000000, 1795396560397000000)),
        ("1795396560397-7", (1795396560397000007, 1795396560397000007)),
        ("1795396560397-*", (1795396560397999999, 1795396560397999999)),
        ("1795396560397000002-1795396560399000001", (1795396560397000002, 1795396560399000001)),
        ("1795396560397000002", (1795396560397000002, 0)),
        ("1795396560397000002-*", (1795396560397000002, LAST)),
    ],
)
def test_ids_are_places(value: str, place: tuple[int, int]) -> None:
    assert parse(value) == place


def test_entries_are_numbers_of_the_same_order() -> None:
    assert entry_id(number("1795396560397-12")) == "1795396560397-12"
    assert number("1795396560397-12") < number("1795396560397-13") < number("1795396560398-0") < LAST
