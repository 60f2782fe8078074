"""Engines that are killed: runs wait for them, and finish."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import InternalServerError, NotFoundError
from temporalio.client import Client, WorkflowExecutionStatus
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from durathread.db.migrate import upgrade
from durathread.embedded.child import Child
from durathread.embedded.engines import Engines
from tests.conftest import environment_of
from tests.engines import ON_CLUSTER, engines
from tests.eventually import eventually
from tests.protocol.support import kinds, run_start, watching
from tests.runs.support import entered, joining, lines, log_of, start
from tests.stack import Stack, free_port, running
from tests.workflows.support import closed, shown


@pytest.fixture(scope="module")
async def own_engines(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engines]:
    """Engines that may be killed."""
    async with engines(tmp_path_factory.mktemp("engines")) as started:
        upgrade(started.database_url)
        yield started


@pytest.fixture(scope="module")
async def stack(own_engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A server on them."""
    async with running(environment_of(own_engines, queue="outages"), tmp_path_factory.mktemp("logs")) as found:
        yield found


@pytest.fixture
async def own_client(stack: Stack) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=stack.url) as found:
        yield found


async def kill(engine: Child) -> None:
    """Kill an engine, as a crash would."""
    engine.kill()
    await engine.wait()


@pytest.mark.parametrize("name", ["valkey", "postgres", "temporal"])
async def test_a_run_survives_the_death_of_an_engine(
    own_engines: Engines, own_client: LangGraphClient, thread_id: str, tmp_path: Path, name: str
) -> None:
    engine: Child = getattr(own_engines, name)
    gate, traces = tmp_path / "gate", {step: tmp_path / step for step in ("s1", "s2")}
    do = {step: {"trace": str(path)} for step, path in traces.items()}
    do["s2"]["until"] = str(gate)
    run = await start(own_client, thread_id, "in", graph="five", do=do, stream_resumable=True)
    stream = own_client.runs.join_stream(thread_id, run["run_id"], last_event_id="-1")
    seen = [(await anext(stream)).event]
    await entered(traces["s2"])
    await kill(engine)
    gate.touch()
    await engine.start()
    result: Any = await own_client.runs.join(thread_id, run["run_id"])
    assert result["log"] == ["in", "s1", "s2", "s3", "s4", "s5"]
    parts = [part async for part in stream]
    seen += [part.event for part in parts]
    assert seen[0] == "metadata"
    assert "error" not in seen
    assert parts[-1].event == "end"
    assert parts[-1].data["status"] == "success"
    assert len(lines(traces["s1"])) == 1
    assert (await own_client.threads.get(thread_id))["status"] == "idle"


@pytest.mark.parametrize("name", ["postgres", "temporal"])
async def test_nothing_is_accepted_that_cannot_be_started(
    own_engines: Engines, own_client: LangGraphClient, thread_id: str, name: str
) -> None:
    engine: Child = getattr(own_engines, name)
    # Just seen alive, so that the loss is noticed only when the run has been admitted.
    await own_client.runs.wait(None, "agent", input={"log": ["in"]})
    await kill(engine)

    async def refused() -> bool:
        try:
            await start(own_client, thread_id, "in")
        except InternalServerError as error:
            return error.response.status_code == 503
        return False

    try:
        await eventually(refused)
    finally:
        await engine.start()

    async def answers() -> bool:
        try:
            await own_client.threads.get(thread_id)
        except NotFoundError:
            return True
        except InternalServerError:
            return False
        raise AssertionError("an orphan was left behind")

    await eventually(answers)

    async def accepted() -> Any:
        try:
            return await start(own_client, thread_id, "in")
        except InternalServerError:
            return None

    run: Any = await eventually(accepted)
    result: Any = await own_client.runs.join(thread_id, run["run_id"])
    assert result["log"] == ["in", "a", "b", "c"]


async def test_a_request_with_a_key_that_temporal_did_not_take_is_carried_out_when_it_is_sent_again(
    own_engines: Engines, stack: Stack, own_client: LangGraphClient
) -> None:
    thread_id = (await own_client.threads.create())["thread_id"]
    body = {"assistant_id": "agent", "input": {"log": ["in"]}}
    await kill(own_engines.temporal)
    async with httpx.AsyncClient(base_url=stack.url, timeout=60) as http:

        async def answer() -> httpx.Response:
            return await http.post(f"/threads/{thread_id}/runs", json=body, headers={"Idempotency-Key": "outage"})

        try:
            # The first finds out; those behind it are told at once.
            assert {(await answer()).status_code for _ in range(3)} == {503}
        finally:
            await own_engines.temporal.start()

        async def accepted() -> Any:
            found = await answer()
            return found if found.status_code == 200 else None

        run = (await eventually(accepted)).json()
        assert (await answer()).json() == run
    await own_client.runs.join(thread_id, run["run_id"])
    assert [each["run_id"] for each in await own_client.runs.list(thread_id)] == [run["run_id"]]


@pytest.mark.parametrize("name", ["valkey", "postgres", "temporal"])
async def test_the_api_names_the_engine_that_does_not_answer(own_engines: Engines, stack: Stack, name: str) -> None:
    engine: Child = getattr(own_engines, name)
    # The cluster has its tables in the same Postgres.
    silent = ["postgres", "temporal"] if ON_CLUSTER and name == "postgres" else [name]
    async with httpx.AsyncClient(base_url=stack.url, timeout=5) as http:

        async def answer() -> tuple[int, list[str]]:
            found = await http.get("/ready")
            assert (await http.get("/ok")).status_code == 200
            return found.status_code, [each for each, said in found.json()["services"].items() if not said["ok"]]

        async def well() -> bool:
            return await answer() == (200, [])

        async def named() -> list[str]:
            status, found = await answer()
            return found if status == 503 else []

        await eventually(well)
        for number in (signal.SIGSTOP, signal.SIGKILL):
            engine.send(number)
            if number == signal.SIGKILL:
                await engine.wait()
            try:
                # Of a process with many threads some may go on for a moment.
                found = await eventually(named)
                assert name in found
                assert set(found) <= set(silent)
            finally:
                engine.send(signal.SIGCONT)
                if number == signal.SIGKILL:
                    await engine.start()
            await eventually(well)


async def test_a_run_goes_on_after_everything_was_killed_at_once(
    own_engines: Engines, stack: Stack, own_client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    gate, traces = tmp_path / "gate", {step: tmp_path / step for step in ("s1", "s2", "s3")}
    do = {step: {"trace": str(path)} for step, path in traces.items()}
    do["s3"]["until"] = str(gate)
    run = await start(own_client, thread_id, "in", graph="five", do=do)
    await entered(traces["s3"])
    for name in ("worker", "api"):
        await stack.kill(name)
    for engine in (own_engines.temporal, own_engines.postgres, own_engines.valkey):
        await kill(engine)
    gate.touch()
    for engine in (own_engines.valkey, own_engines.postgres, own_engines.temporal):
        await engine.start()
    for name in ("worker", "api"):
        await stack.start(name)
    await stack.ready()
    result: Any = await own_client.runs.join(thread_id, run["run_id"])
    assert result["log"] == ["in", "s1", "s2", "s3", "s4", "s5"]
    assert [len(lines(path)) for path in traces.values()] == [1, 1, 2]
    assert await log_of(own_client, thread_id) == result["log"]


async def test_runs_do_not_wait_for_a_frozen_valkey(
    own_engines: Engines, own_client: LangGraphClient, thread_id: str
) -> None:
    own_engines.valkey.send(signal.SIGSTOP)
    try:
        async with asyncio.timeout(60):
            started = [await start(own_client, thread_id, f"r{number}") for number in range(8)]
            await own_client.runs.join(thread_id, started[-1]["run_id"])
    finally:
        own_engines.valkey.send(signal.SIGCONT)
    log = await log_of(own_client, thread_id)
    assert log == [entry for number in range(8) for entry in (f"r{number}", "a", "b", "c")]


async def test_who_waits_for_a_run_that_is_rolled_back_is_answered_without_valkey(
    own_engines: Engines, stack: Stack, own_client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    trace = tmp_path / "b"
    run = await start(own_client, thread_id, "in", do={"b": {"trace": str(trace), "sleep": 600}})
    await entered(trace)
    async with joining(stack.url, thread_id, run["run_id"]) as joined:
        await kill(own_engines.valkey)
        try:
            await own_client.runs.cancel(thread_id, run["run_id"], action="rollback")
            assert (await joined.aread()).strip() == b"{}"
        finally:
            await own_engines.valkey.start()


async def test_an_end_that_nobody_heard_of_is_told_by_the_next_attempt(
    own_engines: Engines, stack: Stack, own_client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "c"
    temporal = await Client.connect(own_engines.temporal_address)
    given = {"log": ["in"], "do": {"c": {"trace": str(trace), "until": str(gate)}}}
    async with watching(stack.url, thread_id) as watch:
        run_id = await run_start(stack.url, thread_id, "agent", input=given)
        await entered(trace)
        # The end is written, and then cannot be told.
        own_engines.valkey.send(signal.SIGSTOP)
        gate.touch()

        async def ended() -> bool:
            return (await own_client.runs.get(thread_id, run_id))["status"] == "success"

        await eventually(ended)
        await stack.kill("worker")
        await kill(own_engines.valkey)
        await own_engines.valkey.start()
        await stack.start("worker")
        description = await closed(temporal, f"run/{run_id}", timeout=30)
        assert shown(description) == (WorkflowExecutionStatus.COMPLETED, None)
        events = await watch.ended()
    assert kinds(events)[-1] == "lifecycle completed"
    assert (await own_client.threads.get(thread_id))["status"] == "idle"


async def test_a_socket_whose_commands_find_no_valkey_is_closed_with_a_reason(
    own_engines: Engines, stack: Stack, thread_id: str
) -> None:
    async with watching(stack.url, thread_id) as watch:
        await run_start(stack.url, thread_id, "agent", input={"log": ["in"]})
        await watch.ended()
    async with connect(f"{stack.url.replace('http', 'ws', 1)}/threads/{thread_id}/stream/events") as socket:
        await socket.send('{"id": 1, "method": "subscription.reconnect", "params": {}}')
        assert '"success"' in str(await socket.recv())
        await kill(own_engines.valkey)
        await socket.send('{"id": 2, "method": "subscription.subscribe", "params": {"channels": ["values"]}}')
        assert "the event stream is unavailable" in str(await socket.recv())
        with pytest.raises(ConnectionClosedError) as gone:
            await socket.recv()
    await own_engines.valkey.start()
    assert gone.value.rcvd is not None
    assert (gone.value.rcvd.code, gone.value.rcvd.reason) == (1011, "the event stream is unavailable")


async def test_roles_that_start_before_their_engines_wait_for_them(
    own_engines: Engines, stack: Stack, own_client: LangGraphClient, thread_id: str
) -> None:
    before = stack.log("worker").count("The worker is ready")
    for name in ("worker", "api"):
        await stack.kill(name)
    for engine in (own_engines.temporal, own_engines.postgres):
        await kill(engine)
    for name in ("worker", "api"):
        await stack.start(name)

    async def both_wait() -> bool:
        worker, api = (stack.log(name).count("Postgres cannot be used yet") for name in ("worker", "api"))
        return bool(worker and api)

    await eventually(both_wait, timeout=60)
    await asyncio.gather(own_engines.temporal.start(), own_engines.postgres.start())
    await stack.ready()
    await stack.worker_ready(times=before + 1)
    run = await start(own_client, thread_id, "in")
    result: Any = await own_client.runs.join(thread_id, run["run_id"])
    assert result["log"] == ["in", "a", "b", "c"]
    assert [stack.processes[name].returncode for name in ("worker", "api")] == [None, None]


async def test_a_worker_that_waits_for_temporal_can_be_stopped(own_engines: Engines, stack: Stack) -> None:
    environment = {**stack.environment, "TEMPORAL_ADDRESS": f"127.0.0.1:{free_port()}"}
    lonely = Stack(environment, stack.logs / "lonely")
    await lonely.start("worker")

    async def waits() -> bool:
        return "cannot be reached yet" in lonely.log("worker")

    await eventually(waits, timeout=60)
    async with asyncio.timeout(60):
        assert await lonely.stop("worker") == 0
