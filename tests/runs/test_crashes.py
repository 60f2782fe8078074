"""Processes that are killed: accepted runs finish, and nothing that was finished is repeated."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from temporalio.client import Client

from durathread.workflows.messages import Sweep
from tests.eventually import eventually
from tests.runs.support import entered, lines, log_of, start, status_becomes
from tests.stack import Stack, running

WAITING = "SELECT pid FROM pg_locks WHERE NOT granted"


@pytest.fixture(scope="module")
async def shared(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A server of these tests' own, on a task queue of its own."""
    # Whoever waits for a heartbeat that does not come, or for one that does, waits for longer than any of these tests.
    own = {
        **environment,
        "DURATHREAD_TASK_QUEUE": "crashes",
        "DURATHREAD_HEARTBEAT_TIMEOUT": "300",
        "DURATHREAD_HEARTBEAT_INTERVAL": "100",
    }
    async with running(own, tmp_path_factory.mktemp("crashes")) as found:
        yield found


@pytest.fixture
async def stack(shared: Stack) -> AsyncIterator[Stack]:
    """That server with an API and one worker, whatever the test before has killed."""
    for name in ("worker", "api"):
        if name not in shared.processes or shared.processes[name].returncode is not None:
            shared.processes.pop(name, None)
            await shared.start(name)
    await shared.ready()
    yield shared
    for name in set(shared.processes) - {"worker", "api"}:
        await shared.stop(name)


@pytest.fixture
async def own_client(stack: Stack) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=stack.url) as found:
        yield found


async def restart_when_dead(stack: Stack, times: int) -> None:
    """Do what a supervisor does."""
    for _ in range(times):
        await stack.processes["worker"].wait()
        await stack.start("worker")


async def test_a_killed_worker_costs_one_repeated_step(
    stack: Stack, own_client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    await stack.start("first", "worker")
    await stack.worker_ready("first")
    gate = tmp_path / "gate"
    traces = {name: tmp_path / name for name in ("s1", "s2", "s3", "s4", "s5")}
    do = {name: {"trace": str(path)} for name, path in traces.items()}
    do["s3"]["until"] = str(gate)
    stream = own_client.runs.stream(
        thread_id, "five", input={"log": ["in"], "do": do}, if_not_exists="create", stream_mode=["updates"]
    )
    parts = [await anext(stream)]
    await entered(traces["s3"])
    pid = int(lines(traces["s3"])[0].split()[1])
    os.kill(pid, signal.SIGKILL)
    await entered(traces["s3"], 2)
    gate.touch()
    parts += [part async for part in stream]
    assert [len(lines(path)) for path in traces.values()] == [1, 1, 2, 1, 1]
    assert await log_of(own_client, thread_id) == ["in", "s1", "s2", "s3", "s4", "s5"]
    assert [(part.event, part.data.get("attempt")) for part in parts if part.event == "metadata"] == [
        ("metadata", 1),
        ("metadata", 2),
    ]
    assert [part.data for part in parts if part.event == "updates"] == [
        {f"s{n}": {"log": [f"s{n}"]}} for n in range(1, 6)
    ]
    assert parts[-1].data["status"] == "success"


async def test_a_restarted_worker_goes_on_with_the_first_step(
    stack: Stack, own_client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "a"
    run = await start(own_client, thread_id, "in", do={"a": {"trace": str(trace), "until": str(gate)}})
    await entered(trace)
    await stack.kill("worker")
    gate.touch()
    await stack.start("worker")
    result: Any = await own_client.runs.join(thread_id, run["run_id"])
    assert result["log"] == ["in", "a", "b", "c"]
    assert len(lines(trace)) == 2


async def test_an_interrupt_finds_a_thread_whose_worker_is_dead(
    stack: Stack, own_client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    trace = tmp_path / "b"
    first = await start(own_client, thread_id, "r1", do={"b": {"trace": str(trace), "sleep": 600}})
    await entered(trace)
    await stack.kill("worker")
    second = await start(own_client, thread_id, "r2", multitask_strategy="interrupt")
    await stack.start("worker")
    result: Any = await own_client.runs.join(thread_id, second["run_id"])
    assert result["log"] == ["r1", "a", "r2", "a", "b", "c"]
    assert (await own_client.runs.get(thread_id, first["run_id"]))["status"] == "interrupted"


@pytest.mark.parametrize(
    ("graph", "resume", "log"),
    [
        ("hitl", "yes", ["in", "ask=yes", "after"]),
        ("twice", "one", None),
        ("nested_hitl", "yes", ["in", "inner=yes", "after"]),
    ],
)
async def test_an_answer_is_used_once_when_its_node_crashes(
    stack: Stack, own_client: LangGraphClient, thread_id: str, tmp_path: Path, graph: str, resume: str, log: Any
) -> None:
    crash = tmp_path / "crash"
    asked: Any = await own_client.runs.wait(
        thread_id, graph, input={"log": ["in"], "crash": str(crash)}, if_not_exists="create"
    )
    supervisor = asyncio.create_task(restart_when_dead(stack, 1))
    question = asked["__interrupt__"][0]["id"]
    command: Any = {"resume": {question: resume} if graph == "twice" else resume}
    result: Any = await own_client.runs.wait(thread_id, graph, command=command)
    assert crash.exists()
    await supervisor
    if log is not None:
        # The outer graph adds what its subgraph returns, which begins with what the subgraph was given.
        assert result["log"][-2:] == log[-2:]
        assert result["log"].count(log[1]) == 1
    else:
        assert [item["value"] for item in result["__interrupt__"]] == ["second?"]
        result = await own_client.runs.wait(thread_id, graph, command={"resume": "two"})
        assert result["log"] == ["in", "one,two"]


async def test_an_answer_relayed_by_a_graph_around_it_is_used_once(
    stack: Stack, own_client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    crash = tmp_path / "crash"
    given: Any = {"log": ["in"], "crash": str(crash)}
    asked: Any = await own_client.runs.wait(thread_id, "hitl", input=given, if_not_exists="create")
    supervisor = asyncio.create_task(restart_when_dead(stack, 1))
    # As RemoteGraph sends it.
    relayed: Any = {"__pregel_resuming": True, "__pregel_resume_map": {asked["__interrupt__"][0]["id"]: "yes"}}
    result: Any = await own_client.runs.wait(thread_id, "hitl", input=given, config={"configurable": relayed})
    assert crash.exists()
    await supervisor
    assert result["log"] == ["in", "ask=yes", "after"]


async def test_two_answers_by_id_are_each_used_once(
    stack: Stack, own_client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    crash = tmp_path / "crash"
    asked: Any = await own_client.runs.wait(
        thread_id, "both", input={"log": ["in"], "crash": str(crash)}, if_not_exists="create"
    )
    answers = {item["id"]: item["value"].upper() for item in asked["__interrupt__"]}
    supervisor = asyncio.create_task(restart_when_dead(stack, 1))
    result: Any = await own_client.runs.wait(thread_id, "both", command={"resume": answers})
    await supervisor
    assert sorted(result["log"]) == ["after", "in", "left=LEFT?", "right=RIGHT?"]


async def test_a_command_with_an_update_is_applied_once(
    stack: Stack, own_client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    crash = tmp_path / "crash"
    await own_client.runs.wait(thread_id, "hitl", input={"log": ["in"], "crash": str(crash)}, if_not_exists="create")
    supervisor = asyncio.create_task(restart_when_dead(stack, 1))
    result: Any = await own_client.runs.wait(
        thread_id, "hitl", command={"resume": "yes", "update": {"log": ["updated"]}}
    )
    await supervisor
    assert result["log"] == ["in", "updated", "ask=yes", "after"]


async def test_a_step_that_kills_its_worker_three_times_ends_its_run(
    stack: Stack, own_client: LangGraphClient, thread_id: str, temporal: Client
) -> None:
    supervisor = asyncio.create_task(restart_when_dead(stack, 3))
    run = await start(own_client, thread_id, "r1", do={"b": {"kill": True}})
    result: Any = await own_client.runs.join(thread_id, run["run_id"])
    await supervisor
    assert result["__error__"]["error"] == "RuntimeError"
    assert (await own_client.threads.get(thread_id))["status"] == "error"
    # Temporal says the same, and the log says of which run.
    workflow = await temporal.get_workflow_handle(f"run/{run['run_id']}").result()
    assert workflow["status"] == "error"
    [said] = [line for line in stack.log("worker").splitlines() if "took its worker down too often" in line]
    assert run["run_id"] in said
    usable: Any = await own_client.runs.wait(thread_id, "agent", input={"log": ["r2"], "do": {}})
    assert usable["log"] == ["r1", "a", "r2", "a", "b", "c"]


async def test_what_a_run_left_is_settled_at_once_when_the_worker_dies_that_was_at_it(
    stack: Stack, own_client: LangGraphClient, thread_id: str, temporal: Client, database: str, tmp_path: Path
) -> None:
    trace = tmp_path / "b"
    run = await start(own_client, thread_id, "in", do={"b": {"trace": str(trace), "sleep": 600}})
    await entered(trace)
    connect = psycopg.AsyncConnection.connect
    async with await connect(database) as holding, await connect(database, autocommit=True) as looking:
        await holding.execute("SELECT 1 FROM run WHERE run_id = %s FOR UPDATE", (run["run_id"],))

        async def waiting() -> set[int]:
            return {pid for (pid,) in await (await looking.execute(WAITING)).fetchall()}

        await temporal.get_workflow_handle(f"run/{run['run_id']}").cancel()
        first = await eventually(waiting, what="the run is being settled")
        await stack.start("other", "worker")
        await stack.worker_ready("other")
        await stack.kill("worker")

        async def another() -> bool:
            return bool(await waiting() - first)

        # Not a minute after it began, when Temporal takes the first attempt for lost.
        await eventually(another, timeout=40, what="another worker settles it")
    await status_becomes(own_client, thread_id, "interrupted")
    assert await log_of(own_client, thread_id) == ["in", "a"]


async def test_a_stopping_worker_hands_its_step_back(
    stack: Stack, own_client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    gate, trace, first = tmp_path / "gate", tmp_path / "b", tmp_path / "a"
    do = {"a": {"trace": str(first)}, "b": {"trace": str(trace), "until": str(gate)}}
    run = await start(own_client, thread_id, "in", do=do)
    await entered(trace)
    await stack.start("other", "worker")
    await stack.worker_ready("other")
    # The grace is one second; the node takes longer.
    assert await stack.stop("worker") == 0
    await entered(trace, 2)
    gate.touch()
    result: Any = await own_client.runs.join(thread_id, run["run_id"])
    assert result["log"] == ["in", "a", "b", "c"]
    assert len(lines(first)) == 1


async def test_a_killed_api_costs_its_clients_nothing(
    stack: Stack, own_client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "b"
    body = {
        "assistant_id": "agent",
        "input": {"log": ["in"], "do": {"b": {"trace": str(trace), "until": str(gate)}}},
        "stream_mode": ["updates"],
        "stream_resumable": True,
        "if_not_exists": "create",
    }
    seen: list[tuple[str, str]] = []
    killer = asyncio.create_task(_kill_when(stack, trace, seen))
    async with httpx.AsyncClient(timeout=30, base_url=stack.url) as http:
        with pytest.raises(httpx.TransportError):
            await _read(http.stream("POST", f"/threads/{thread_id}/runs/stream", json=body), seen)
        await killer
        gate.touch()
        await stack.start("api")
        await stack.ready()
        [run] = await own_client.runs.list(thread_id)
        rest: list[tuple[str, str]] = []
        headers = {"Last-Event-ID": seen[-1][1]}
        await _read(
            http.stream("GET", f"/threads/{thread_id}/runs/{run['run_id']}/stream?stream_end=true", headers=headers),
            rest,
        )
    assert [name for name, _ in seen] == ["metadata", "updates"]
    assert [name for name, _ in rest] == ["updates", "updates", "end"]
    assert await log_of(own_client, thread_id) == ["in", "a", "b", "c"]


async def test_a_request_that_a_stopping_api_cannot_finish_is_told_so(
    stack: Stack, thread_id: str, database: str
) -> None:
    async with (
        await psycopg.AsyncConnection.connect(database) as other,
        httpx.AsyncClient(timeout=30, base_url=stack.url) as http,
    ):
        await other.execute("LOCK TABLE thread IN ACCESS EXCLUSIVE MODE")
        asking = asyncio.create_task(http.post("/threads", json={"thread_id": thread_id}))

        async def waits() -> bool:
            return bool(await (await other.execute(WAITING)).fetchall())

        await eventually(waits)
        stack.processes["api"].terminate()
        answer = await asking
        await other.rollback()
    assert (answer.status_code, answer.json()) == (503, {"detail": "The server is stopping; try again."})
    assert answer.headers["retry-after"] == "1"
    assert await stack.processes["api"].wait() == 0


async def _read(streaming: AbstractAsyncContextManager[httpx.Response], events: list[tuple[str, str]]) -> None:
    """Collect names and ids of events until the body ends, or breaks."""
    async with streaming as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                events.append((line[7:], ""))
            if line.startswith("id: "):
                events[-1] = (events[-1][0], line[4:])


async def _kill_when(stack: Stack, trace: Path, seen: list[tuple[str, str]]) -> None:
    """Kill the API while the second node works, once the client has seen what came of the first."""

    async def has_seen() -> bool:
        return "updates" in (name for name, _ in seen)

    await entered(trace)
    await eventually(has_seen)
    await stack.kill("api")


async def test_a_run_admitted_just_before_the_api_died_is_found(
    stack: Stack, own_client: LangGraphClient, thread_id: str, temporal: Client, database: str
) -> None:
    """The row is the outbox: a sweep signals a run that Temporal has never heard of."""
    first: Any = await start(own_client, thread_id, "r1", after_seconds=3600)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as conn:
        # As if the API had died between the two: the row is there, due, and old; no workflow knows of it.
        await conn.execute(
            "UPDATE run SET created_at = now() - interval '1 hour', updated_at = now() - interval '1 hour' "
            "WHERE run_id = %s",
            (first["run_id"],),
        )
    await temporal.get_workflow_handle(f"thread/{thread_id}").terminate()
    # Unless the server's own schedule comes first.
    await temporal.execute_workflow(
        "Sweep", Sweep(age=1), id=f"sweep-{thread_id}", task_queue=stack.environment["DURATHREAD_TASK_QUEUE"]
    )

    async def done() -> bool:
        return (await own_client.runs.get(thread_id, first["run_id"]))["status"] == "success"

    await eventually(done)
    assert await log_of(own_client, thread_id) == ["r1", "a", "b", "c"]
