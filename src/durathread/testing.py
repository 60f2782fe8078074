"""A durathread for the tests of your own graphs: a whole server, on engines of its own, as fixtures of pytest.

In your `conftest.py`:

    pytest_plugins = ["durathread.testing"]

It needs the extra `embedded`, and pytest, which durathread does not install.
"""

import contextlib
import http.client
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM

import pytest
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.client import LangGraphClient, SyncLangGraphClient

from durathread.embedded.child import LAUNCH
from durathread.embedded.folder import published
from durathread.embedded.ports import free_port
from durathread.errors import EngineError

START_PATIENCE = 300.0
"""Seconds that a server may take to start: graphs may take long to import."""
STOP_PATIENCE = 30.0
SHOWN = 4000
EVERY = 0.1


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    """Where its API answers."""
    environment: Mapping[str, str]
    """Where its engines are, as `Settings` and Temporal's clients read it."""
    log: Path
    """What it has written."""

    def client(self) -> LangGraphClient:
        """Make a client of the LangGraph SDK."""
        return get_client(url=self.url)

    def sync_client(self) -> SyncLangGraphClient:
        """Make a client of the LangGraph SDK that is not asynchronous."""
        return get_sync_client(url=self.url)


@contextmanager
def serve(config: Path, *, data: Path) -> Generator[Server]:
    """Run `durathread dev` with a langgraph.json on free ports, and stop it at the end.

    Args:
        config: the langgraph.json to serve.
        data: an empty folder; what it holds is lost at the end.

    Raises:
        EngineError: the server did not start; says what it wrote last.
    """
    port, log = free_port(), data / "server.log"
    data.mkdir(parents=True, exist_ok=True)
    program = Path(sys.executable).with_name("durathread")
    command = [str(program), "dev", "--config", str(config), "--port", str(port), "--data", str(data / "engines")]
    # It ends with the tests, whatever ends them.
    child = [sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), str(int(SIGTERM)), "", *command]
    with log.open("wb") as output:
        process = subprocess.Popen([*child, "--no-ui"], stdout=output, stderr=subprocess.STDOUT)
    try:
        environment = _wait_until_ready(process, port, data=data / "engines", log=log)
        yield Server(f"http://127.0.0.1:{port}", environment, log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(data / "engines", ignore_errors=True)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, *, data: Path, log: Path) -> Mapping[str, str]:
    end = time.monotonic() + START_PATIENCE
    while True:
        # It tells where its engines are a moment after it answers.
        with contextlib.suppress(EngineError):
            if _answers(port):
                return published(data)
        if process.poll() is not None or time.monotonic() > end:
            text = log.read_text(errors="replace")[-SHOWN:]
            raise EngineError(f"The server did not start. It wrote last:\n{text}")
        time.sleep(EVERY)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@pytest.fixture(scope="session")
def durathread_config(request: pytest.FixtureRequest) -> Path:
    """The langgraph.json to serve: that of the root folder of your tests. Define a fixture of this name to serve another."""
    return request.config.rootpath / "langgraph.json"


@pytest.fixture(scope="session")
def durathread_server(durathread_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for the whole session. It takes a few seconds to start."""
    with serve(durathread_config, data=tmp_path_factory.mktemp("durathread")) as server:
        yield server


@pytest.fixture
def durathread_client(durathread_server: Server) -> LangGraphClient:
    """A client of the server."""
    return durathread_server.client()
