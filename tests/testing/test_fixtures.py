"""`durathread.testing`, used as in a project of somebody else's: its tests run in a pytest of their own."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from durathread.errors import EngineError
from durathread.testing import serve
from tests.eventually import eventually

AGENT = """
from typing import TypedDict
from langgraph.graph import START, StateGraph

class State(TypedDict):
    name: str
    greeting: str

def greet(state: State) -> dict[str, str]:
    return {"greeting": f"Hello {state['name']}"}

builder = StateGraph(State)
builder.add_node("greet", greet)
builder.add_edge(START, "greet")
graph = builder.compile()
"""
THEIR_TESTS = """
import asyncio

import psycopg


def test_it_greets(durathread_server):
    client = durathread_server.sync_client()
    thread = client.threads.create()["thread_id"]
    assert client.runs.wait(thread, "greeter", input={"name": "Ada"})["greeting"] == "Hello Ada"


def test_it_greets_without_a_thread(durathread_client):
    answer = asyncio.run(durathread_client.runs.wait(None, "greeter", input={"name": "Bob"}))
    assert answer["greeting"] == "Hello Bob"


def test_the_engines_can_be_reached(durathread_server):
    with psycopg.connect(durathread_server.environment["DATABASE_URL"]) as conn:
        assert conn.execute("SELECT count(*) FROM run").fetchone()[0] >= 1
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "agent.py").write_text(AGENT)
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": {"greeter": "./agent.py:graph"}}))
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["durathread.testing"]\n')
    (tmp_path / "test_greeter.py").write_text(THEIR_TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def test_a_project_tests_its_graph_on_a_server_of_its_own(project: Path) -> None:
    arguments = ["-q", "-p", "no:cacheprovider", "--basetemp", str(project / "temporary")]
    ran = subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=project, capture_output=True, text=True)  # noqa: PLW1510
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "3 passed" in ran.stdout


def test_a_server_ends_with_the_tests_that_started_it_even_if_they_are_killed(project: Path) -> None:
    holding = project / "holding.py"
    holding.write_text(
        "import sys, time\nfrom pathlib import Path\nfrom durathread.testing import serve\n"
        f"with serve(Path({str(project / 'langgraph.json')!r}), data=Path({str(project / 'data')!r})) as server:\n"
        "    print(server.environment['DATABASE_URL'], flush=True)\n    time.sleep(3600)\n"
    )
    with subprocess.Popen([sys.executable, str(holding)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("postgresql://")
        started = {pid for pid, line in processes().items() if str(project / "data") in line}
        assert started
        process.send_signal(signal.SIGKILL)
        process.wait()

        async def gone() -> bool:
            return not started & set(processes())

        asyncio.run(eventually(gone, what="the server and its engines are gone"))


def processes() -> dict[int, str]:
    """List the processes of this machine with their command lines; not those that have ended."""
    found: dict[int, str] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                found[int(folder.name)] = (
                    (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
            except OSError:
                continue
    return {pid: line for pid, line in found.items() if line and pid != os.getpid()}


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": {"greeter": "./gone.py:graph"}}))
    with pytest.raises(EngineError, match=r"gone\.py"), serve(tmp_path / "langgraph.json", data=tmp_path / "data"):
        pass
