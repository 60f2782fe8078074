"""`durathread dev`, as people run it: in a process of its own, ended by Ctrl-C or worse."""

import asyncio
import json
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from durathread.embedded.neighbourhood import closed, opens_to_all
from durathread.embedded.ports import free_port
from tests.embedded.processes import all_gone, command_of, kill
from tests.eventually import eventually

CONFIG = Path(__file__).parents[2] / "examples" / "weather" / "langgraph.json"
COMMAND = str(Path(sys.executable).with_name("durathread"))
THREAD = "0195a2c4-5d0e-7c3f-9a51-3f2d8e6b7a10"
START = 60.0


@dataclass
class Server:
    """A running `durathread dev`."""

    process: asyncio.subprocess.Process
    port: int
    log: Path

    @property
    def url(self) -> str:
        """Where its API should be."""
        return f"http://127.0.0.1:{self.port}"

    def text(self) -> str:
        """What it has written."""
        return self.log.read_text()

    def family(self) -> list[psutil.Process]:
        """The process, and all that it has started."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def child(self, *words: str) -> psutil.Process | None:
        """Find a child by words of its command line."""
        for each in psutil.Process(self.process.pid).children():
            if all(word in command_of(each) for word in words):
                return each
        return None

    async def ready(self) -> None:
        """Wait until it says that it is ready."""

        async def said() -> bool:
            assert self.process.returncode is None, self.text()
            return "Ctrl-C stops it" in self.text()

        await eventually(said, timeout=START)

    async def ok(self) -> bool:
        """Say whether its API answers."""
        async with httpx.AsyncClient() as client:
            try:
                return (await client.get(f"{self.url}/ok")).status_code == 200
            except httpx.TransportError:
                return False


@asynccontextmanager
async def started(folder: Path, *options: str, port: int | None = None) -> AsyncGenerator[Server]:
    """Start `durathread dev` with its data in a folder; at the end kill what is left of it."""
    port = port or free_port()
    log = folder / f"dev-{port}.txt"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(COMMAND, "dev", "--config", str(CONFIG), "--port", str(port), "--data", str(folder / "data"), *options),
            stdin=DEVNULL,
            stdout=output,
            stderr=STDOUT,
            start_new_session=True,
        )
    try:
        yield Server(process, port, log)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """A server on the data of one that was killed with all its children; at the end Ctrl-C stops it."""
    folder = tmp_path_factory.mktemp("dev")
    async with started(folder) as first:
        await first.ready()
        async with httpx.AsyncClient() as client:
            (await client.post(f"{first.url}/threads", json={"thread_id": THREAD})).raise_for_status()
        everything = first.family()
        kill(everything)
        await first.process.wait()
        await all_gone(everything)
    async with started(folder) as second:
        await second.ready()
        yield second
        family = second.family()
        second.process.send_signal(signal.SIGINT)
        assert await second.process.wait() == 0
        assert not any(each.is_running() for each in family[1:])
        assert second.text().endswith("Stopped.\n")


async def test_data_outlives_a_kill_of_everything_at_once(server: Server) -> None:
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{server.url}/threads/{THREAD}")).status_code == 200


async def test_it_says_where_everything_is(server: Server) -> None:
    text = server.text()
    ui = next(line.split()[-1] for line in text.splitlines() if "Temporal UI  " in line)
    async with httpx.AsyncClient() as client:
        for url in (f"http://localhost:{server.port}", f"http://localhost:{server.port}/docs", ui):
            assert url in text
        assert (await client.get(f"{server.url}/ok")).status_code == 200
        assert (await client.get(f"{server.url}/docs")).status_code == 200
        assert (await client.get(ui)).status_code == 200


async def test_others_join_it_by_what_env_prints(server: Server) -> None:
    script = 'eval "$("$0" env --data data)"; "$1" -c "$2"'
    ask = "import os, psycopg; psycopg.connect(os.environ['DATABASE_URL']).execute('SELECT thread_id FROM thread')"
    process = await asyncio.create_subprocess_exec(
        *("sh", "-euc", script + '; echo "$TEMPORAL_ADDRESS"', COMMAND, sys.executable, ask),
        cwd=server.log.parent,
        stdout=PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert out.startswith(b"127.0.0.1:")


async def test_a_second_one_on_the_same_data_is_refused(server: Server) -> None:
    async with started(server.log.parent) as second:
        assert await second.process.wait() == 1
        assert f"is in use by process {server.process.pid}." in second.text()
        assert "Traceback" not in second.text()


async def test_a_second_one_on_the_same_port_is_refused(server: Server, tmp_path: Path) -> None:
    async with started(tmp_path, port=server.port) as second:
        assert await second.process.wait() == 1
        assert second.text() == f"Error: Port {server.port} on 127.0.0.1 is taken. Choose another with --port.\n"


@pytest.mark.parametrize(
    "words", [("durathread worker",), ("durathread api",), ("valkey-server",), ("postgres", "-D"), ("temporal",)]
)
async def test_a_killed_process_is_started_again(server: Server, words: tuple[str, ...]) -> None:
    victim = server.child(*words)
    assert victim
    returns = server.text().count(" is back")
    victim.kill()

    async def back() -> bool:
        return server.text().count(" is back") > returns and server.child(*words) is not None

    await eventually(back, timeout=START)
    assert server.child(*words) != victim
    await eventually(server.ok, timeout=START)


async def test_nothing_outlives_it(tmp_path: Path) -> None:
    async with started(tmp_path) as server:

        async def all_there() -> bool:
            return all(server.child(words) for words in ("valkey", "postgres", "temporal", "worker", "durathread api"))

        await eventually(all_there, timeout=START)
        family = server.family()
        server.process.kill()
        await all_gone(family)


async def test_ctrl_c_while_it_starts_stops_everything(tmp_path: Path) -> None:
    async with started(tmp_path, "--ephemeral") as server:

        async def begun() -> bool:
            return "✓" in server.text()

        await eventually(begun, timeout=START)
        family = server.family()
        server.process.send_signal(signal.SIGINT)
        assert await server.process.wait() == 0
        await all_gone(family)
    assert not (tmp_path / "data").exists()


async def test_taken_ports_of_temporal_are_replaced_and_named(tmp_path: Path) -> None:
    taken: list[socket.socket] = []
    for port in (7233, 8233):
        try:
            taken.append(socket.create_server(("127.0.0.1", port)))
        except OSError:
            continue
    try:
        async with started(tmp_path, "--ephemeral") as server:

            async def named() -> bool:
                return "Port 7233 is taken" in server.text() and "Port 8233 is taken" in server.text()

            await eventually(named, timeout=START)
            family = server.family()
            server.process.send_signal(signal.SIGTERM)
            assert await server.process.wait() == 0
            await all_gone(family)
    finally:
        for each in taken:
            each.close()


async def test_two_that_start_in_the_same_second_both_come_up(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    async with started(folders[0], "--ephemeral") as one, started(folders[1], "--ephemeral") as two:
        for each in (one, two):
            await each.ready()
            assert await each.ok()
        for each in (one, two):
            family = each.family()
            each.process.send_signal(signal.SIGTERM)
            assert await each.process.wait() == 0
            await all_gone(family)


async def test_a_graph_that_cannot_be_loaded_is_named_and_ends_it(tmp_path: Path) -> None:
    """Before anything is started; in the words of whoever wrote it, if it is an exception in what it imports."""
    graph = "from langgraph.graph import START, MessagesState, StateGraph\nimport helper\n"
    node = '.add_node("a", lambda state: {}).add_edge(START, "a")'
    (tmp_path / "agent.py").write_text(f"{graph}graph = StateGraph(MessagesState){node}\n")
    (tmp_path / "helper.py").write_text("def key():\n    return {}['OPENAI_API_KEY']\n\nKEY = key()\n")
    helper = tmp_path / "helper.py"
    lines = [f'  File "{helper}", line 4, in <module>', f'  File "{helper}", line 2, in key']
    for target, words in {
        "./nowhere.py:graph": [f"FileNotFoundError: {tmp_path}/nowhere.py does not exist"],
        "./agent.ts:graph": ["JavaScript graphs are not served, only those in Python."],
        "agent.py": ["is not of the form './file.py:variable'"],
        "./agent.py:graph": ["failed to import: KeyError: 'OPENAI_API_KEY'", *lines],
        "no.such.module:graph": ["ModuleNotFoundError: No module named 'no'"],
    }.items():
        (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": {"agent": target}, "dependencies": ["."]}))
        async with started(tmp_path, "--ephemeral", "--config", str(tmp_path / "langgraph.json")) as server:
            assert await server.process.wait() == 1
            # A slow machine says meanwhile that it is not ready.
            text = server.text().removeprefix("What is served is not ready yet. ").lstrip()
        assert text.startswith("Error: ")
        assert "Graph 'agent'" in text
        assert all(each in text for each in words), text
        assert "✓" not in text
        assert "Traceback" not in text
    helper.write_text("")
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": {"agent": "./agent.py:agent"}}))
    code, _, err = await checked(tmp_path)
    assert (code, err) == (1, "Error: Graph 'agent': ./agent.py has no variable 'agent'.\n")
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": {"agent": "./agent.py:graph"}}))
    assert (await checked(tmp_path))[0] == 0


async def checked(folder: Path) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(COMMAND, "check", cwd=folder, stdout=PIPE, stderr=PIPE)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


LOCAL = ("http://localhost:3000", "http://127.0.0.1:5173", "http://[::1]:80", "https://smith.langchain.com")
ELSEWHERE = (
    "https://evil.example",
    "http://localhost.evil.example",
    "https://smith.langchain.com.evil.example",
    "null",
)


async def test_pages_of_this_machine_and_studio_may_call_and_no_others(server: Server) -> None:
    preflight = {"access-control-request-method": "POST", "access-control-request-private-network": "true"}
    async with httpx.AsyncClient(base_url=server.url) as http:
        for origin in LOCAL:
            answer = await http.options("/threads", headers={"origin": origin, **preflight})
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == origin
            assert answer.headers["access-control-allow-private-network"] == "true"
            assert (await http.post("/threads", json={}, headers={"origin": origin})).status_code == 200
        for origin in ELSEWHERE:
            assert (await http.options("/threads", headers={"origin": origin, **preflight})).status_code == 400
            assert (await http.post("/threads", content="{}", headers={"origin": origin})).status_code == 403
            assert "access-control-allow-origin" not in (await http.get("/info", headers={"origin": origin})).headers


async def test_a_name_that_leads_here_from_elsewhere_is_not_served(server: Server) -> None:
    async with httpx.AsyncClient(base_url=server.url) as http:
        for host in (f"localhost:{server.port}", "localhost", "127.0.0.1", "[::1]:8123", "LOCALHOST"):
            assert (await http.get("/info", headers={"host": host})).status_code == 200
        for host in ("evil.example", f"evil.example:{server.port}", "localhost.evil.example", "127.0.0.1.evil.example"):
            assert (await http.get("/info", headers={"host": host})).status_code == 403


def test_who_says_who_may_come_in_is_heard() -> None:
    here = closed({}, {}, host="127.0.0.1")
    assert set(here) == {"CORS_CONFIG", "DURATHREAD_ALLOWED_HOSTS"}
    assert closed({}, {"auth": {"path": "x"}}, host="127.0.0.1") == {}
    assert set(closed({}, {"http": {"cors": {"allow_origins": ["*"]}}}, host="localhost")) == {
        "DURATHREAD_ALLOWED_HOSTS"
    }
    aside = json.loads(closed({}, {"http": {"cors": {"max_age": 60}}}, host="localhost")["CORS_CONFIG"])
    assert aside == {**json.loads(here["CORS_CONFIG"]), "max_age": 60}
    for named in ({"allow_origins": []}, {"allow_origin_regex": ".*"}):
        assert "CORS_CONFIG" not in closed({}, {"http": {"cors": named}}, host="localhost")
    said = {"CORS_ALLOW_ORIGINS": "*", "DURATHREAD_ALLOWED_HOSTS": "box"}
    assert closed(said, {}, host="127.0.0.1") == said
    assert "DURATHREAD_ALLOWED_HOSTS" not in closed({}, {}, host="0.0.0.0")
    assert opens_to_all({}, host="0.0.0.0")
    assert not opens_to_all({"auth": {"path": "x"}}, host="0.0.0.0")
    assert not opens_to_all({}, host="::1")
