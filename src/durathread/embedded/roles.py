"""The roles of the server, run as our own children."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from pathlib import Path

from durathread.embedded.child import TAIL_LINES, Child
from durathread.embedded.engines import Engines
from durathread.embedded.http import get
from durathread.embedded.terminal import Terminal
from durathread.errors import ConfigError, EngineError

ERROR = "Error: "
LABELS = {"check": "What is served", "migrate": "The migration", "api": "The API", "worker": "The worker"}
STEP_GRACE = 5
"""Seconds that a step may go on after Ctrl-C. It is repeated at the next start, so waiting long buys little."""


TELL = 10
"""Seconds after which a role that is not ready says what it is at."""


class Role(Child):
    """A role, as `durathread NAME`. Its lines go to the terminal; until it is ready they are kept back."""

    # A graph may take minutes to import.
    patience = None

    def __init__(self, engines: Engines, name: str, *, terminal: Terminal, variables: dict[str, str]) -> None:
        """Describe a role that finds variables in its environment."""
        super().__init__(engines.folder, name)
        self.label = LABELS[name]
        self.engines = engines
        self.terminal = terminal
        self._variables = variables
        self._lines: deque[str] = deque(maxlen=200)
        self._is_ready = False
        self._reading: asyncio.Task[None] | None = None

    def command(self) -> list[str]:
        """Return the command line: the console script that belongs to this Python."""
        return [str(Path(sys.executable).with_name("durathread")), self.name]

    def environment(self) -> dict[str, str]:
        """Return its environment variables."""
        return self._variables | ({"FORCE_COLOR": "1"} if self.terminal.coloured else {})

    async def ready(self) -> bool:
        """Say whether it has done its work: a role that ends by itself is ready when it has ended well."""
        return self.pid is None and await self.wait() == 0

    async def start(self) -> None:
        """Start it, wait until it is ready, and let its lines through."""
        self._is_ready = False
        self._lines.clear()
        telling = asyncio.create_task(self._tell())
        try:
            await super().start()
        finally:
            telling.cancel()
        self._is_ready = True
        for line in self._lines:
            self.terminal.echo(self.name, line)

    async def _tell(self) -> None:
        """Say what it is at while it takes long: users' imports may."""
        while True:
            await asyncio.sleep(TELL)
            self.terminal.say(f"{self.label} is not ready yet. {self._lines[-1] if self._lines else ''}", style="dim")

    async def wait(self) -> int:
        """Wait until it has ended and its last line is read."""
        code = await super().wait()
        if self._reading:
            await asyncio.wait([self._reading], timeout=1)
        return code

    def tail(self) -> str:
        """Return the last lines it wrote since it was started."""
        return "\n".join(list(self._lines)[-TAIL_LINES:])

    async def spawned(self, command: list[str], *, output: int) -> Process:
        """Start a command, reading what it writes."""
        process = await super().spawned(command, output=PIPE)
        assert process.stdout
        self._reading = asyncio.create_task(self._read(process.stdout))
        return process

    async def _read(self, stream: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await stream.read(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._take(line)
        if rest:
            self._take(rest)

    def _take(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        self._lines.append(text)
        if self._is_ready:
            self.terminal.echo(self.name, text)


class Check(Role):
    """A look at what is to be served, before anything else starts."""

    async def look(self) -> None:
        """Wait until it has imported and built every graph.

        Raises:
            ConfigError: one cannot be served; says which, and why.
        """
        try:
            await self.start()
        except EngineError:
            said = "\n".join(self._lines)
            before, _, why = said.rpartition("\n" + ERROR) if "\n" + ERROR in said else said.partition(ERROR)
            raise ConfigError(why or before) from None
        finally:
            await self.stop()
        # The worker says it all again.
        self._lines.clear()


class Api(Role):
    """The API."""

    async def ready(self) -> bool:
        """Say whether it answers."""
        host = self._variables["DURATHREAD_HOST"]
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        status, _ = await get(int(self._variables["DURATHREAD_PORT"]), "/ok", host=reachable)
        return status == 200 and self.pid is not None


class Worker(Role):
    """A worker."""

    grace = STEP_GRACE + 10

    async def ready(self) -> bool:
        """Say whether it polls its task queue."""
        queue = self._variables.get("DURATHREAD_TASK_QUEUE") or await self.engines.postgres.task_queue()
        return await self.engines.temporal.has_worker(queue) and self.pid is not None


def own_environment(config: Path) -> dict[str, str]:
    """Make up the environment of what needs no engines."""
    return {**os.environ, "DURATHREAD_CONFIG": str(config.resolve()), "PYTHONUNBUFFERED": "1"}


def environment(engines: Engines, config: Path, *, host: str, port: int) -> dict[str, str]:
    """Make up the environment of the roles: ours, but for what would lead them to other engines."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "PG"))}
    return (
        {"BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS": str(STEP_GRACE)}
        | ours
        | engines.environment
        | {
            # A profile of the user's own may ask for TLS.
            "TEMPORAL_CONFIG_FILE": os.devnull,
            "DURATHREAD_CONFIG": str(config.resolve()),
            "DURATHREAD_HOST": host,
            "DURATHREAD_PORT": str(port),
            "PYTHONUNBUFFERED": "1",
        }
    )
