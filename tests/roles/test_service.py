"""Two APIs and two workers as an operator runs them, on engines that nobody has set up for durathread."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError, NotFoundError
from temporalio.client import Client
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.eventually import eventually
from tests.roles.conftest import FEW, new_database
from tests.roles.plain import PlainEngines
from tests.roles.roles import STOPPED, Role, Roles
from tests.runs.support import entered, is_there, joining, lines, log_of, start, statuses
from tests.stack import free_port


@dataclass
class Service:
    """What an operator has started."""

    roles: Roles
    ports: Mapping[str, int]
    running: dict[str, Role]

    def url(self, name: str) -> str:
        """Say where an API answers."""
        return f"http://127.0.0.1:{self.ports[name]}"

    async def complete(self) -> None:
        """Start what does not run, and wait until all is ready."""
        for name in ("api1", "api2", "worker1", "worker2"):
            if name not in self.running or self.running[name].running.returncode is not None:
                port = {"DURATHREAD_PORT": str(self.ports[name])} if name in self.ports else {}
                self.running[name] = await self.roles.start(name.rstrip("12"), name=name, **port)
        await asyncio.gather(*(role.says("is ready") for role in self.running.values()))

    async def stop(self) -> None:
        """Stop everything, as an operator does."""
        ended = await asyncio.gather(*(role.stop() for role in self.running.values()))
        assert set(ended) <= {*STOPPED, -signal.SIGKILL}


@pytest.fixture(scope="module")
async def shared(plain: PlainEngines, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """Both APIs and both workers, once for all of these tests."""
    environment = {**plain.environment, "DURATHREAD_CONFIG": str(FEW), "DATABASE_URL": new_database(plain)}
    roles = Roles(environment, tmp_path_factory.mktemp("service"))
    try:
        code, text = await roles.run("migrate")
        assert code == 0, text
        found = Service(roles, {"api1": free_port(), "api2": free_port()}, {})
        await found.complete()
        yield found
        await found.stop()
        assert not [role.text() for role in roles.started if "Traceback" in role.text()]
    finally:
        await roles.close()


@pytest.fixture
async def service(shared: Service) -> Service:
    """All four, whatever the test before has ended."""
    await shared.complete()
    return shared


@pytest.fixture
async def both(service: Service) -> AsyncIterator[list[LangGraphClient]]:
    """A client of each API."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(get_client(url=service.url(name))) for name in service.ports]


async def working(client: LangGraphClient, thread_id: str, folder: Path) -> Any:
    """Start a run, and return when it is in node b, which ends when it is cancelled or `gate` is there."""
    do = {"b": {"trace": str(folder / "b"), "until": str(folder / "gate"), "ended": str(folder / "ended")}}
    run = await start(client, thread_id, "r1", do=do)
    await entered(folder / "b")
    return run


async def test_enqueue_through_two_apis_runs_one_after_the_other(
    both: list[LangGraphClient], thread_id: str, tmp_path: Path
) -> None:
    await working(both[0], thread_id, tmp_path)
    second = await start(both[1], thread_id, "r2")
    (tmp_path / "gate").touch()
    await both[0].runs.join(thread_id, second["run_id"])
    assert await log_of(both[1], thread_id) == ["r1", "a", "b", "c", "r2", "a", "b", "c"]
    assert await statuses(both[0], thread_id) == ["success"] * 2


async def test_interrupt_through_another_api_keeps_what_the_old_run_did(
    both: list[LangGraphClient], thread_id: str, tmp_path: Path
) -> None:
    await working(both[0], thread_id, tmp_path)
    second = await start(both[1], thread_id, "r2", multitask_strategy="interrupt")
    await both[0].runs.join(thread_id, second["run_id"])
    assert await log_of(both[0], thread_id) == ["r1", "a", "r2", "a", "b", "c"]
    assert await statuses(both[0], thread_id) == ["interrupted", "success"]
    assert is_there(tmp_path / "ended")


async def test_rollback_through_another_api_leaves_nothing_of_the_old_run(
    both: list[LangGraphClient], thread_id: str, tmp_path: Path
) -> None:
    first = await working(both[0], thread_id, tmp_path)
    second = await start(both[1], thread_id, "r2", multitask_strategy="rollback")
    await both[0].runs.join(thread_id, second["run_id"])
    assert await log_of(both[0], thread_id) == ["r2", "a", "b", "c"]
    assert await statuses(both[0], thread_id) == ["success"]
    with pytest.raises(NotFoundError):
        await both[0].runs.get(thread_id, first["run_id"])


async def test_reject_through_another_api_refuses_the_second_run(
    both: list[LangGraphClient], thread_id: str, tmp_path: Path
) -> None:
    first = await working(both[0], thread_id, tmp_path)
    with pytest.raises(ConflictError):
        await start(both[1], thread_id, "r2", multitask_strategy="reject")
    (tmp_path / "gate").touch()
    await both[1].runs.join(thread_id, first["run_id"])
    assert await log_of(both[1], thread_id) == ["r1", "a", "b", "c"]
    assert await statuses(both[1], thread_id) == ["success"]


async def test_a_stream_is_the_same_through_either_api_and_temporal_finds_its_run(
    plain: PlainEngines, both: list[LangGraphClient], thread_id: str, tmp_path: Path
) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "b"
    do = {"b": {"trace": str(trace), "until": str(gate)}}
    run = await start(both[0], thread_id, "in", do=do, stream_mode=["updates"], stream_resumable=True)
    await entered(trace)
    streams = [client.runs.join_stream(thread_id, run["run_id"], last_event_id="-1") for client in both]
    seen = [[await anext(stream)] for stream in streams]
    gate.touch()
    for parts, stream in zip(seen, streams, strict=True):
        parts += [part async for part in stream]
    assert [(part.event, part.id) for part in seen[0]] == [(part.event, part.id) for part in seen[1]]
    assert [part.data for part in seen[0] if part.event == "updates"] == [{name: {"log": [name]}} for name in "abc"]
    assert (seen[0][-1].event, seen[0][-1].data["status"]) == ("end", "success")
    temporal = await Client.connect(plain.environment["TEMPORAL_ADDRESS"])

    async def is_found() -> bool:
        return (await temporal.count_workflows(f"ThreadId = '{thread_id}' AND WorkflowType = 'Run'")).count == 1

    await eventually(is_found)


async def test_a_cancel_through_another_api_reaches_its_node(
    both: list[LangGraphClient], thread_id: str, tmp_path: Path
) -> None:
    run = await working(both[0], thread_id, tmp_path)
    await both[1].runs.cancel(thread_id, run["run_id"], wait=True)

    async def has_ended() -> bool:
        return is_there(tmp_path / "ended")

    await eventually(has_ended)
    assert await statuses(both[0], thread_id) == ["interrupted"]
    assert await log_of(both[0], thread_id) == ["r1", "a"]


async def test_a_run_whose_worker_is_killed_goes_on_in_the_other_and_repeats_one_step(
    service: Service, both: list[LangGraphClient], thread_id: str, tmp_path: Path
) -> None:
    gate, traces = tmp_path / "gate", {f"s{n}": tmp_path / f"s{n}" for n in range(1, 6)}
    do: dict[str, Any] = {name: {"trace": str(path)} for name, path in traces.items()}
    do["s3"]["until"] = str(gate)
    run = await start(both[0], thread_id, "in", graph="five", do=do)
    await entered(traces["s3"])
    killed = int(lines(traces["s3"])[0].split()[1])
    workers = {service.running[name].running.pid for name in ("worker1", "worker2")}
    assert killed in workers
    os.kill(killed, signal.SIGKILL)
    await entered(traces["s3"], 2)
    gate.touch()
    await both[1].runs.join(thread_id, run["run_id"])
    assert await log_of(both[1], thread_id) == ["in", "s1", "s2", "s3", "s4", "s5"]
    assert await statuses(both[1], thread_id) == ["success"]
    assert [len(lines(path)) for path in traces.values()] == [1, 1, 2, 1, 1]
    assert {int(lines(traces[name])[-1].split()[1]) for name in ("s3", "s4", "s5")} == workers - {killed}


async def test_an_api_that_is_stopped_ends_its_streams_and_the_other_goes_on(
    service: Service, both: list[LangGraphClient], thread_id: str, tmp_path: Path
) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "b"
    run = await start(
        both[0], thread_id, "in", do={"b": {"trace": str(trace), "until": str(gate)}}, stream_resumable=True
    )
    await entered(trace)
    here = asyncio.create_task(until_it_ends(f"{service.url('api1')}/threads/{thread_id}/runs/{run['run_id']}/stream"))
    async with joining(service.url("api2"), thread_id, run["run_id"]) as there:
        code = await service.running["api1"].stop()
        assert code in STOPPED
        seen = await here
        gate.touch()
        assert b'"log":["in","a","b","c"]' in await there.aread()
    ids = [line.removeprefix("id: ") for line in seen.splitlines() if line.startswith("id: ")]
    rest = [part async for part in both[1].runs.join_stream(thread_id, run["run_id"], last_event_id=ids[-1])]
    whole = [part async for part in both[1].runs.join_stream(thread_id, run["run_id"], last_event_id="-1")]
    assert [*ids, *(part.id for part in rest)] == [part.id for part in whole]
    assert await statuses(both[1], thread_id) == ["success"]


async def test_an_api_that_is_stopped_closes_its_sockets_and_says_why(
    service: Service, both: list[LangGraphClient], thread_id: str, tmp_path: Path
) -> None:
    """Those that idle, that follow a run, and that somebody left without a word."""
    run = await working(both[1], thread_id, tmp_path)
    role = service.running["api1"]
    address = f"{service.url('api1').replace('http', 'ws', 1)}/threads/{thread_id}/stream/events"
    async with connect(address) as idle, connect(address) as following, connect(address) as left:
        left.transport.abort()
        command = {"id": 1, "method": "subscription.subscribe", "params": {"channels": ["values", "lifecycle"]}}
        await following.send(json.dumps(command))
        assert json.loads(await following.recv())["type"] == "success"
        assert await role.stop() in STOPPED
        for socket in (idle, following):
            # Iterating ends without an error only where the code is one of a regular end.
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(everything(socket), 30)
            # Service restart: clients come back.
            assert socket.close_code == 1012
    assert not [words for words in ("Traceback", "rror") if words in role.text()], role.text()
    (tmp_path / "gate").touch()
    await both[1].runs.join(thread_id, run["run_id"])
    assert await statuses(both[1], thread_id) == ["success"]


async def everything(socket: ClientConnection) -> list[str | bytes]:
    """Read until there is no more."""
    return [message async for message in socket]


async def until_it_ends(url: str) -> str:
    """Read a stream until its server ends it, in whatever way."""
    seen = ""
    async with httpx.AsyncClient(timeout=30) as http, http.stream("GET", url, headers={"Last-Event-ID": "-1"}) as found:
        try:
            async for text in found.aiter_text():
                seen += text
        except httpx.TransportError:
            pass
    return seen
