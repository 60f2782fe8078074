"""Engines as anybody would start them: nothing of durathread's has set them up."""

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from redis.asyncio import Redis
from redis.exceptions import RedisError
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from durathread.embedded import child, postgres, temporal, valkey
from durathread.embedded.ports import free_port
from tests.eventually import eventually

# Postgres refuses to run as root.
UNPRIVILEGED = "nobody" if os.geteuid() == 0 else ""
UTF8 = {**os.environ, "LC_ALL": "C.UTF-8"}


def spawn(
    folder: Path, *command: str, user: str = "", number: signal.Signals = signal.SIGKILL
) -> subprocess.Popen[bytes]:
    """Start a program that ends when this process does."""
    launch = [sys.executable, "-I", "-S", str(child.LAUNCH), str(os.getpid()), str(int(number)), user]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [*launch, *command], cwd=folder, env=UTF8, stdout=log, stderr=log, start_new_session=True
        )


@dataclass
class Plain:
    """A running engine."""

    command: list[str]
    folder: Path
    user: str = ""
    number: signal.Signals = signal.SIGKILL
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        self.process = spawn(self.folder, *self.command, user=self.user, number=self.number)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process
        self.process.send_signal(number)

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.send(signal.SIGCONT)
            self.send(self.number)
            self.process.wait()
            self.process = None


@dataclass
class PlainEngines:
    """All three, on free ports."""

    folder: Path
    ports: dict[str, int] = field(
        default_factory=lambda: {name: free_port() for name in ("postgres", "valkey", "temporal")}
    )

    @property
    def environment(self) -> dict[str, str]:
        """Say where they are, as an operator does."""
        return {
            "DATABASE_URL": self.database_url("postgres"),
            "REDIS_URL": f"redis://127.0.0.1:{self.ports['valkey']}",
            "TEMPORAL_ADDRESS": f"127.0.0.1:{self.ports['temporal']}",
        }

    def database_url(self, name: str) -> str:
        """Say where a database is."""
        return f"postgresql://postgres@127.0.0.1:{self.ports['postgres']}/{name}"

    def postgres(self) -> Plain:
        """Describe a Postgres with what `initdb` makes by itself."""
        folder = self._folder("postgres")
        programs = postgres._programs()  # pyright: ignore[reportPrivateUsage]
        data = folder / "data"
        data.mkdir()
        if UNPRIVILEGED:
            os.chown(data, pwd.getpwnam(UNPRIVILEGED).pw_uid, -1)
        made = spawn(folder, str(programs / "initdb"), "-U", "postgres", "-D", str(data), user=UNPRIVILEGED).wait()
        assert made == 0, (folder / "log").read_text()
        command = [str(programs / "postgres"), "-D", str(data), "-p", str(self.ports["postgres"]), "-k", ""]
        return Plain(command, folder, UNPRIVILEGED, signal.SIGINT)

    def valkey(self) -> Plain:
        """Describe a Valkey without a configuration."""
        server = valkey._program()  # pyright: ignore[reportPrivateUsage]
        return Plain([str(server), "--port", str(self.ports["valkey"])], self._folder("valkey"))

    def temporal(self) -> Plain:
        """Describe a Temporal server as its own documentation starts it."""
        server = temporal._program()  # pyright: ignore[reportPrivateUsage]
        command = [str(server), "server", "start-dev", "--headless", "--port", str(self.ports["temporal"])]
        return Plain(command, self._folder("temporal"))

    async def ready(self) -> None:
        """Wait until all answer."""
        await eventually(self._postgres_answers, timeout=60)
        await eventually(self._valkey_answers, timeout=60)
        await eventually(self._temporal_answers, timeout=60)

    def _folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(parents=True)
        return folder

    async def _postgres_answers(self) -> bool:
        try:
            async with await psycopg.AsyncConnection.connect(self.database_url("postgres"), connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    async def _valkey_answers(self) -> bool:
        client = Redis(port=self.ports["valkey"])
        try:
            return bool(await client.ping())  # pyright: ignore[reportGeneralTypeIssues]
        except (RedisError, OSError):
            return False
        finally:
            await client.aclose()

    async def _temporal_answers(self) -> bool:
        try:
            client = await Client.connect(self.environment["TEMPORAL_ADDRESS"])
            await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="default"))
        except (RuntimeError, RPCError):
            return False
        return True


@asynccontextmanager
async def plain_engines(folder: Path) -> AsyncGenerator[PlainEngines]:
    """Run the three for as long as the block lasts."""
    found = PlainEngines(folder)
    async with AsyncExitStack() as stack:
        for engine in (found.postgres(), found.valkey(), found.temporal()):
            engine.start()
            stack.callback(engine.stop)
        await found.ready()
        yield found
