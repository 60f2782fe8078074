"""Measure how soon a step is repeated after kill -9 of the worker that had it. Starts its own engines and roles."""

import argparse
import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from durathread.embedded.engines import Engines, engines
from durathread.embedded.ports import free_port
from durathread.embedded.roles import Api, Role, Worker, environment
from durathread.embedded.supervisor import supervised
from durathread.embedded.terminal import Terminal

CONFIG = Path(__file__).parent / "graphs" / "langgraph.json"
PATIENCE = 120
SETTLED = 0.5
WORKER = "from durathread.worker import main; main()"
BURN = "while True: pass"
READY = b"The worker is ready"


@dataclass(frozen=True)
class Place:
    """Where the roles run."""

    engines: Engines
    variables: dict[str, str]
    client: LangGraphClient
    folder: Path


@asynccontextmanager
async def placed() -> AsyncGenerator[Place]:
    """Start engines and an API in a folder of their own."""
    with tempfile.TemporaryDirectory(prefix="recovery-") as name:
        folder = Path(name)
        async with engines(folder / "data", ephemeral=True, headless=True) as found:
            port = free_port()
            variables = environment(found, CONFIG, host="127.0.0.1", port=port) | {"LOG_LEVEL": "INFO"}
            terminal = Terminal()
            await Role(found, "migrate", terminal=terminal, variables=variables).start()
            api = Api(found, "api", terminal=terminal, variables=variables)
            await api.start()
            try:
                async with get_client(url=f"http://127.0.0.1:{port}", timeout=httpx.Timeout(PATIENCE)) as client:
                    yield Place(found, variables, client, folder)
            finally:
                await api.stop()


async def recovery(place: Place) -> float:
    """Kill the worker that is at a step; return the seconds until the step begins again."""
    trace, gate, thread_id = place.folder / uuid4().hex, place.folder / uuid4().hex, str(uuid4())
    given = {"trace": str(trace), "gate": str(gate)}
    run = await place.client.runs.create(thread_id, "watched", input=given, if_not_exists="create")
    [(_, pid)] = await begun(trace, 1)
    # The input's checkpoint is written meanwhile: a kill before that repeats a superstep that is LangGraph's own first.
    await asyncio.sleep(SETTLED)
    killed = time.time()
    os.kill(pid, signal.SIGKILL)
    [_, (again, _)] = await begun(trace, 2)
    gate.touch()
    await place.client.runs.join(thread_id, run["run_id"])
    return again - killed


async def begun(trace: Path, times: int) -> list[tuple[float, int]]:
    """Wait until a node has begun so many times; return when, and in which process."""
    end = time.monotonic() + PATIENCE
    while True:
        lines = trace.read_text().splitlines() if trace.exists() else []  # noqa: ASYNC240
        if len(lines) >= times:
            return [(float(when), int(pid)) for when, pid in (line.split() for line in lines)]
        if time.monotonic() > end:
            raise TimeoutError(f"not begun {times} times within {PATIENCE} s")
        await asyncio.sleep(0.01)


@asynccontextmanager
async def two_workers(place: Place) -> AsyncGenerator[Callable[[], Awaitable[None]]]:
    """Have two workers; what is yielded replaces the one that was killed, and waits until it is ready."""
    workers: list[Process] = []

    async def fill() -> None:
        workers[:] = [worker for worker in workers if worker.returncode is None]
        while len(workers) < 2:
            workers.append(await start_worker(place))

    try:
        await fill()
        yield fill
    finally:
        for worker in workers:
            if worker.returncode is None:
                worker.terminate()
            await worker.wait()


async def start_worker(place: Place) -> Process:
    """Start a worker and wait until it says that it is ready."""
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-c",
        WORKER,
        env=place.variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert worker.stdout
    async for line in worker.stdout:
        if READY in line:
            break
    # What it says later is read, so that it is never kept waiting.
    reading = asyncio.create_task(worker.stdout.read())
    reading.add_done_callback(lambda _: None)
    _READING.add(reading)
    return worker


_READING: set[asyncio.Task[bytes]] = set()


@asynccontextmanager
async def one_worker(place: Place, load: int) -> AsyncGenerator[None]:
    """Have one worker that is supervised as `durathread dev` does, on a machine with other things to do."""
    worker = Worker(place.engines, "worker", terminal=Terminal(), variables=place.variables)
    await worker.start()
    burning = [await asyncio.create_subprocess_exec(sys.executable, "-c", BURN) for _ in range(load)]
    try:
        async with supervised([worker], say=lambda _: None):
            yield
    finally:
        for process in burning:
            process.kill()
            await process.wait()
        await worker.stop()


def report(name: str, samples: list[float]) -> None:
    """Print one line of the table."""
    print(f"| {name} | {len(samples)} | {statistics.median(samples):.2f} | {max(samples):.2f} |", flush=True)


async def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="samples with a second worker")
    parser.add_argument("--restarts", type=int, default=5, help="samples with one worker")
    parser.add_argument("--load", type=int, default=10, help="busy processes beside the one worker")
    options = parser.parse_args()
    async with placed() as place:
        print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors\n")
        print("| kill -9 of the worker, until its step begins again | samples | median s | max s |\n|---|---|---|---|")
        if options.kills:
            async with two_workers(place) as fill:
                samples = [await _one(place, fill) for _ in range(options.kills)]
            report("another worker is there", samples)
        if options.restarts:
            async with one_worker(place, options.load):
                samples = [await recovery(place) for _ in range(options.restarts)]
            report(f"it is started again, {options.load} busy processes beside it", samples)


async def _one(place: Place, fill: Callable[[], Awaitable[None]]) -> float:
    await fill()
    return await recovery(place)


asyncio.run(main())
