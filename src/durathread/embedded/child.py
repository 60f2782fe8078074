"""One process that we start, watch and stop."""

import asyncio
import contextlib
import os
import signal
import sys
from abc import ABC, abstractmethod
from asyncio.subprocess import DEVNULL, STDOUT, Process
from pathlib import Path

from durathread.embedded.folder import Folder
from durathread.errors import EngineError

# What launch.py takes besides its arguments.
UMASK = "DURATHREAD_CHILD_UMASK"
LAUNCH = Path(__file__).with_name("launch.py")
FIRST_PAUSE = 0.01
LAST_PAUSE = 0.2
TAIL_LINES = 15


class Child(ABC):
    """A process of a program. It can be started again after it ended, with the same arguments on the same data."""

    label: str
    """What people call it."""
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    """What it gets when we die: by default no time to finish, so that a successor can start at once."""
    grace: float = 10
    """Seconds it may take to stop."""
    umask: str = ""
    """Which permissions the files that it makes do not have, in octal; those that ours do not have by default."""
    # One that ends is noticed at once: this is for those that hang, and long for a machine that is busy.
    patience: float | None = 180
    """Seconds it may take to become ready; None for as long as it lives."""
    user: str = ""
    """Whom it runs as, if not as us."""

    def __init__(self, folder: Folder, name: str) -> None:
        """Describe a child; nothing runs yet."""
        self.folder = folder
        self.name = name
        self._process: Process | None = None
        self._log_start = 0

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command line."""

    @abstractmethod
    async def ready(self) -> bool:
        """Say whether it serves now."""

    async def prepare(self) -> None:
        """Bring its files into order before it starts."""
        return

    def environment(self) -> dict[str, str]:
        """Return its environment variables."""
        return dict(os.environ)

    @property
    def pid(self) -> int | None:
        """Its process number, while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    @property
    def log(self) -> Path:
        """The file it writes to."""
        return self.folder.log(self.name)

    async def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            EngineError: it ended first, or took too long; says what it wrote last.
        """
        await self.prepare()
        await self._spawn(self.command())
        try:
            async with asyncio.timeout(self.patience):
                await self._until_ready()
        except TimeoutError:
            self.kill()
            await self.wait()
            raise EngineError(self._complaint(f"was not ready after {self.patience:.0f} s")) from None

    async def stop(self) -> None:
        """Ask it to stop, and wait. What outlasts its grace is killed."""
        self.send(self.stop_signal)
        try:
            async with asyncio.timeout(self.grace):
                await self.wait()
        except TimeoutError:
            self.kill()
            await self.wait()
        self.folder.forget(self.name)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self._process and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once (kill -9)."""
        self.send(signal.SIGKILL)

    async def wait(self) -> int:
        """Wait until it has ended; return its exit code, negative for a signal."""
        return await self._process.wait() if self._process else 0

    def written(self) -> str:
        """Return what it has written since it was started."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def tail(self) -> str:
        """Return the last lines it wrote since it was started."""
        return "\n".join(self.written().splitlines()[-TAIL_LINES:])

    async def run(self, *command: str) -> None:
        """Run a program of its package to the end, as its user.

        Raises:
            EngineError: the program failed; says what it wrote last.
        """
        await self._spawn(list(command))
        if await self.wait():
            raise EngineError(self._complaint(f"could not be set up: {Path(command[0]).name} failed"))

    async def _until_ready(self) -> None:
        polling = asyncio.create_task(self._poll())
        ending = asyncio.create_task(self.wait())
        try:
            await asyncio.wait({polling, ending}, return_when=asyncio.FIRST_COMPLETED)
            # What has ended may still have done all that was asked of it.
            if ending.done() and not await self.ready():
                raise EngineError(self._complaint(f"did not start ({describe(ending.result())})"))
        finally:
            polling.cancel()
            ending.cancel()
            await asyncio.gather(polling, ending, return_exceptions=True)

    async def _poll(self) -> None:
        pause = FIRST_PAUSE
        while not await self.ready():
            await asyncio.sleep(pause)
            # Some take seconds, and asking costs them time.
            pause = min(pause * 1.2, LAST_PAUSE)

    async def _spawn(self, command: list[str]) -> None:
        spawning = asyncio.create_task(self._execute(command))
        try:
            self._process = await asyncio.shield(spawning)
        except asyncio.CancelledError:
            # It runs all the same: keep hold of it, so that it is stopped.
            self._process = await spawning
            raise
        finally:
            if self.pid is not None:
                self.folder.record(self.name, pid=self.pid, stop_signal=self.death_signal)

    async def _execute(self, command: list[str]) -> Process:
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            return await self.spawned(command, output=log.fileno())

    async def spawned(self, command: list[str], *, output: int) -> Process:
        """Start a command that ends with us, out of reach of the terminal's Ctrl-C."""
        launch = [sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), str(int(self.death_signal)), self.user]
        return await asyncio.create_subprocess_exec(
            *launch,
            *command,
            stdin=DEVNULL,
            stdout=output,
            stderr=STDOUT,
            start_new_session=True,
            env={**self.environment(), **({UMASK: self.umask} if self.umask else {})},
        )

    def _complaint(self, what: str) -> str:
        tail = self.tail()
        return f"{self.label} {what}." + (f" It wrote:\n{tail}" if tail else "")


def describe(code: int) -> str:
    """Put an exit code into words."""
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
