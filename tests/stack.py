"""A whole server in processes of its own, which tests may kill."""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.eventually import eventually

GRAPHS = Path(__file__).parent / "served" / "langgraph.json"
ROLES = {
    "worker": "from durathread.worker import main; main()",
    "api": "from durathread.api.serve import main; main()",
}


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Stack:
    """An API and workers on given engines; `url` is the API's."""

    environment: Mapping[str, str]
    logs: Path
    port: int = field(default_factory=free_port)
    processes: dict[str, Process] = field(default_factory=dict[str, Process])

    @property
    def url(self) -> str:
        """Where the API answers."""
        return f"http://127.0.0.1:{self.port}"

    def command(self, role: str) -> list[str]:
        """Return the command line of a role."""
        return [sys.executable, "-P", "-c", ROLES[role]]

    def variables(self, role: str) -> dict[str, str]:
        """Return the environment variables of a role."""
        return {**os.environ, **self.environment, "DURATHREAD_PORT": str(self.port)}

    async def start(self, name: str, role: str | None = None) -> Process:
        """Start a process; `name` tells several of a role apart."""
        self.logs.mkdir(parents=True, exist_ok=True)
        with (self.logs / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *self.command(role or name),
                env=self.variables(role or name),
                cwd=self.logs,
                stdout=log,
                stderr=log,
            )
        self.processes[name] = process
        return process

    async def stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal to a process and wait for its end."""
        process = self.processes.pop(name)
        if process.returncode is None:
            process.send_signal(number)
        return await process.wait()

    async def kill(self, name: str) -> None:
        """Kill a process, as a crash would."""
        await self.stop(name, signal.SIGKILL)

    async def ready(self) -> None:
        """Wait until the API answers."""
        async with httpx.AsyncClient() as client:

            async def answers() -> bool:
                try:
                    return (await client.get(f"{self.url}/ok")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(answers, timeout=120, what=self.log("api"))

    async def worker_ready(self, name: str = "worker", *, times: int = 1) -> None:
        """Wait until a worker has said so, for the nth time."""

        async def said() -> bool:
            return self.log(name).count("The worker is ready") >= times

        await eventually(said, timeout=90, what=f"{name} ready")

    def log(self, name: str) -> str:
        """Read what a process has logged."""
        path = self.logs / f"{name}.log"
        return path.read_text() if path.exists() else ""


@asynccontextmanager
async def running(environment: Mapping[str, str], logs: Path, *, workers: int = 1) -> AsyncGenerator[Stack]:
    """Run a server for as long as the block lasts."""
    async with started(Stack(environment, logs), workers=workers) as stack:
        yield stack


@asynccontextmanager
async def started(stack: Stack, *, workers: int) -> AsyncGenerator[Stack]:
    """Run an API and workers for as long as the block lasts."""
    names = ["api", *(f"worker{n or ''}" for n in range(workers))]
    try:
        for name in names:
            await stack.start(name, "api" if name == "api" else "worker")
        await stack.ready()
        for name in names[1:]:
            await stack.worker_ready(name)
        yield stack
    finally:
        for name in list(stack.processes):
            await stack.stop(name)
