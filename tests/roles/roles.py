"""The roles of the server as an operator starts them: console scripts, and environment variables alone."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.eventually import eventually

COMMAND = str(Path(sys.executable).with_name("durathread"))
# What an operator's shell has besides.
KEPT = ("PATH", "HOME", "LANG", "TMPDIR")
# Exit codes of what SIGTERM has ended.
STOPPED = (0, 143, -signal.SIGTERM)


@dataclass
class Role:
    """A role as a process; what it writes is in a file."""

    words: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    process: Process | None = None

    async def start(self) -> "Role":
        """Start it."""
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                COMMAND, *self.words, env={**kept, **self.environment}, cwd=self.log.parent, stdout=log, stderr=log
            )
        return self

    @property
    def running(self) -> Process:
        """The process."""
        assert self.process
        return self.process

    def text(self) -> str:
        """Read what it has written."""
        return self.log.read_text()

    async def says(self, words: str, *, times: int = 1) -> None:
        """Wait until it has written something."""

        async def said() -> bool:
            assert self.running.returncode is None or self.text().count(words) >= times, self.text()
            return self.text().count(words) >= times

        await eventually(said, timeout=120, what=f"{self.words} says {words!r}")

    async def ended(self, *, within: float = 60) -> int:
        """Wait for its end; return the exit code."""
        async with asyncio.timeout(within):
            return await self.running.wait()

    async def stop(self, number: signal.Signals = signal.SIGTERM, *, within: float = 60) -> int:
        """Send it a signal and wait for its end."""
        if self.running.returncode is None:
            self.running.send_signal(number)
        return await self.ended(within=within)


@dataclass
class Roles:
    """Roles of one deployment, or of several."""

    environment: Mapping[str, str]
    folder: Path
    started: list[Role] = field(default_factory=list[Role])

    async def start(self, *words: str, name: str = "", **variables: str) -> Role:
        """Start a role."""
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / f"{name or words[0]}-{len(self.started)}.log"
        role = await Role(words, {**self.environment, **variables}, log).start()
        self.started.append(role)
        return role

    async def run(self, *words: str, **variables: str) -> tuple[int, str]:
        """Run a role to its end; return its exit code, and what it has written."""
        role = await self.start(*words, **variables)
        return await role.ended(), role.text()

    async def close(self) -> None:
        """End what still runs."""
        for role in self.started:
            if role.running.returncode is None:
                role.running.kill()
            await role.running.wait()
