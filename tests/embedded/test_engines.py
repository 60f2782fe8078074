"""The engines start from their packages, keep their data, and leave nothing behind."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
from redis.asyncio import Redis
from temporalio.client import Client
from temporalio.service import RPCError

from durathread.embedded import folder as folders
from durathread.embedded.engines import Engines, describe, engines
from durathread.embedded.engines import running as run
from durathread.embedded.folder import Folder
from durathread.embedded.ports import free_port
from durathread.embedded.postgres import Postgres
from durathread.embedded.temporal import Temporal
from durathread.embedded.valkey import Valkey
from durathread.errors import EngineError
from tests.embedded.processes import all_gone, command_of, kill
from tests.eventually import eventually

OWNER = """
import asyncio, sys
from pathlib import Path
from durathread.embedded.engines import engines

async def main():
    async with engines(Path(sys.argv[1]), headless=True):
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engines]:
    async with engines(tmp_path_factory.mktemp("data") / "with space", headless=True) as started:
        yield started


async def write(found: Engines) -> None:
    """Put something into each engine that keeps data."""
    async with await psycopg.AsyncConnection.connect(found.database_url, autocommit=True) as connection:
        await connection.execute("CREATE TABLE IF NOT EXISTS kept (note text)")
        await connection.execute("INSERT INTO kept VALUES ('kept')")
    client = await Client.connect(found.temporal_address)
    await client.start_workflow("Kept", id="kept", task_queue="nobody")


async def assert_kept(found: Engines) -> None:
    """See that what was written is there."""
    async with await psycopg.AsyncConnection.connect(found.database_url) as connection:
        row = await (await connection.execute("SELECT note FROM kept")).fetchone()
        assert row == ("kept",)
    client = await Client.connect(found.temporal_address)

    async def opened() -> bool:
        # The shard may still be on its way to the server that was just started.
        try:
            return (await client.get_workflow_handle("kept").describe()).id == "kept"
        except RPCError:
            return False

    await eventually(opened)


async def owner(data: Path) -> psutil.Process:
    """Run engines in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(data), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    assert await process.stdout.readline() == b"ready\n"
    found = psutil.Process(process.pid)
    assert len(found.children()) == 3
    return found


async def test_each_engine_answers_at_the_address_that_is_told(running: Engines) -> None:
    async with Redis.from_url(running.redis_url) as valkey:
        assert await valkey.ping()
    await write(running)
    await assert_kept(running)


@pytest.mark.parametrize("name", ["postgres", "valkey", "temporal"])
async def test_a_killed_engine_starts_again_at_the_same_address_with_its_data(running: Engines, name: str) -> None:
    await write_once(running)
    engine = {"postgres": running.postgres, "valkey": running.valkey, "temporal": running.temporal}[name]
    before = engine.pid
    engine.kill()
    assert await engine.wait() == -signal.SIGKILL
    assert engine.pid is None
    await engine.start()
    assert engine.pid != before
    await assert_kept(running)
    async with Redis.from_url(running.redis_url) as valkey:
        assert await valkey.ping()


async def write_once(found: Engines) -> None:
    """Write, if an earlier test has not."""
    client = await Client.connect(found.temporal_address)
    try:
        await client.get_workflow_handle("kept").describe()
    except RPCError:
        await write(found)


async def test_a_data_folder_in_use_is_refused(running: Engines) -> None:
    with pytest.raises(EngineError, match=rf"in use by process {os.getpid()}\b"):
        async with engines(running.folder.path):
            pass


async def test_others_do_not_get_into_postgres_or_valkey(running: Engines) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        await psycopg.AsyncConnection.connect(running.database_url.replace("postgres:", "postgres:x", 1))
    reader, writer = await asyncio.open_connection("127.0.0.1", running.valkey.port)
    writer.write(b"PING\r\n")
    assert (await reader.readline()).startswith(b"-NOAUTH")
    writer.close()
    await writer.wait_closed()
    secret = running.folder.path / "valkey" / "valkey.conf"
    assert secret.stat().st_mode & 0o077 == 0
    assert running.folder.path.stat().st_mode & 0o077 == 0


async def test_data_survives_a_restart(tmp_path: Path) -> None:
    async with engines(tmp_path / "data", headless=True) as first:
        await write(first)
        children = psutil.Process().children(recursive=True)
        mine = [each for each in children if str(tmp_path) in command_of(each)]
        assert mine
    await all_gone(mine)
    assert list((tmp_path / "data" / "pids").iterdir()) == []
    async with engines(tmp_path / "data", headless=True) as second:
        await assert_kept(second)


async def test_ephemeral_data_is_deleted(tmp_path: Path) -> None:
    async with engines(tmp_path / "data", ephemeral=True, headless=True) as found:
        assert found.folder.path.exists()
    assert not (tmp_path / "data").exists()


async def test_a_taken_port_is_replaced(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with engines(tmp_path / "data", ephemeral=True, temporal_port=port, ui_port=port) as found:
            assert found.temporal.port != port
            assert found.ui_url != f"http://localhost:{port}"
            await write(found)


async def test_an_engine_that_cannot_start_says_why(tmp_path: Path) -> None:
    with folders.opened(tmp_path / "data") as folder:
        postgres = Postgres(folder, port=free_port(), ephemeral=True)
        await postgres.start()
        await postgres.stop()
        said = pytest.raises(EngineError, match=r"(?s)Postgres did not start \(exit code 1\).*Address already in use")
        with occupied(postgres.port), said:
            await postgres.start()


async def test_engines_end_with_a_killed_owner(tmp_path: Path) -> None:
    process = await owner(tmp_path / "data")
    children = process.children(recursive=True)
    process.kill()
    await all_gone(children)


async def test_engines_start_on_the_data_of_engines_killed_with_their_owner(tmp_path: Path) -> None:
    process = await owner(tmp_path / "data")
    everything = [process, *process.children(recursive=True)]
    kill(everything)
    await all_gone(everything)
    async with engines(tmp_path / "data", headless=True) as found:
        await write(found)


@pytest.fixture
async def stranger() -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec("sleep", "600")
    yield process
    if process.returncode is None:
        process.kill()
    await process.wait()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    with folders.opened(tmp_path) as opened:
        return opened


async def test_a_child_that_a_predecessor_left_is_stopped(folder: Folder, stranger: asyncio.subprocess.Process) -> None:
    folder.record("temporal", pid=stranger.pid, stop_signal=signal.SIGTERM)
    await folder.stop_orphans()
    assert await stranger.wait() == -signal.SIGTERM


async def test_a_process_that_got_the_number_of_one_left_over_is_let_alone(
    folder: Folder, stranger: asyncio.subprocess.Process
) -> None:
    folder.record("temporal", pid=stranger.pid, stop_signal=signal.SIGKILL)
    note = folder.path / "pids" / "temporal"
    note.write_text(note.read_text().replace('"identity": "', '"identity": "1'))
    await folder.stop_orphans()
    assert stranger.returncode is None
    assert not note.exists()


async def test_a_half_made_cluster_is_made_anew(tmp_path: Path) -> None:
    unfinished = tmp_path / "data" / "postgres.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18")
    async with engines(tmp_path / "data", ephemeral=True, headless=True) as found:
        await write(found)


async def test_a_process_file_of_postgres_that_names_a_stranger_is_no_obstacle(tmp_path: Path) -> None:
    with folders.opened(tmp_path / "data") as opened:
        postgres = Postgres(opened, port=0, ephemeral=True)
        await postgres.prepare()
        (postgres.data / "postmaster.pid").write_text(f"{os.getpid()}\n{postgres.data}\n")
    async with engines(tmp_path / "data", ephemeral=True, headless=True) as found:
        await write(found)


@contextmanager
def occupied(*ports: int) -> Generator[None]:
    """Listen on ports, as another process would that was faster."""
    with ExitStack() as stack:
        for port in ports:
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        yield


async def test_engines_whose_ports_are_taken_before_they_start_are_started_on_others(tmp_path: Path) -> None:
    with folders.opened(tmp_path / "data") as folder:
        described = describe(folder, ephemeral=True, temporal_port=free_port(), ui_port=free_port())
        temporal = described.temporal
        chosen = [described.postgres.port, described.valkey.port, temporal.port, temporal.ui_port or 0]
        with occupied(*chosen):
            async with run(described):
                moved = [described.postgres.port, described.valkey.port, temporal.port, temporal.ui_port or 0]
                assert not set(moved) & set(chosen)
                async with Redis.from_url(described.redis_url) as valkey:
                    assert await valkey.ping()
                await write(described)
                await assert_kept(described)


@pytest.mark.parametrize("name", ["port", "ui_port", "http_port"])
async def test_only_the_port_that_is_taken_is_another(tmp_path: Path, name: str) -> None:
    with folders.opened(tmp_path / "data") as folder:
        temporal = Temporal(folder, port=free_port(), ui_port=free_port(), ephemeral=True)
        names = ("port", "ui_port", "http_port")
        chosen = {each: getattr(temporal, each) for each in names}
        try:
            with occupied(chosen[name]):
                await temporal.start()
            assert {each for each in names if getattr(temporal, each) != chosen[each]} == {name}
        finally:
            temporal.kill()
            await temporal.stop()


async def test_an_engine_that_others_know_stays_where_it_is(tmp_path: Path) -> None:
    with folders.opened(tmp_path / "data") as folder:
        valkey = Valkey(folder, port=free_port())
        try:
            await valkey.start()
            port = valkey.port
            valkey.kill()
            await valkey.wait()
            with occupied(port), pytest.raises(EngineError, match="in use"):
                await valkey.start()
            await valkey.start()
            assert valkey.port == port
        finally:
            await valkey.stop()
