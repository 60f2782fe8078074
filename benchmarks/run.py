"""Measure an agent server through langgraph_sdk: latency of a run, of its stream, of an interrupt, and runs a second."""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
import langgraph_sdk
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

WARM_UP = 5
"""Runs made before the clock starts: connections are open and code is imported."""

RUNS_PER_CLIENT = 500
"""Bound of the closed loop, whatever time it is given."""

NOTE = {"note": "x"}


@dataclass
class Options:
    """What the command line asks for."""

    url: str
    graph: str
    sleeper: str
    runs: int
    clients: int
    seconds: float
    json: bool
    only: list[str] = field(default_factory=list[str])


@dataclass
class Result:
    """One line of the table: samples in milliseconds, or runs a second."""

    name: str
    unit: str
    samples: list[float]

    def summary(self) -> dict[str, Any]:
        """Reduce the samples to what the table shows."""
        ordered = sorted(self.samples)
        return {
            "name": self.name,
            "unit": self.unit,
            "n": len(ordered),
            "min": ordered[0],
            "median": statistics.median(ordered),
            "p95": percentile(ordered, 95),
            "max": ordered[-1],
        }


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Take the nearest-rank percentile of samples in ascending order."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def since(start: float) -> float:
    """Return the milliseconds since a reading of the clock."""
    return (time.perf_counter() - start) * 1000


async def create_and_join(client: LangGraphClient, graph: str, thread_id: str) -> float:
    """Time from creating a run to the answer of its join."""
    start = time.perf_counter()
    run = await client.runs.create(thread_id, graph, input=NOTE)
    await client.runs.join(thread_id, run["run_id"])
    return since(start)


async def fresh_thread(client: LangGraphClient) -> str:
    """Create a thread, outside of what is timed."""
    return (await client.threads.create())["thread_id"]


async def join_fresh(client: LangGraphClient, options: Options) -> list[Result]:
    """Create and join runs one after the other, each on a thread of its own."""
    samples = [await create_and_join(client, options.graph, await fresh_thread(client)) for _ in range(options.runs)]
    return [Result("create -> join, fresh thread each", "ms", samples)]


async def join_same(client: LangGraphClient, options: Options) -> list[Result]:
    """Create and join runs one after the other on one thread."""
    thread_id = await fresh_thread(client)
    samples = [await create_and_join(client, options.graph, thread_id) for _ in range(options.runs)]
    return [Result("create -> join, one thread", "ms", samples)]


async def wait(client: LangGraphClient, options: Options) -> list[Result]:
    """Wait for runs in one request each."""
    samples: list[float] = []
    for _ in range(options.runs):
        thread_id = await fresh_thread(client)
        start = time.perf_counter()
        await client.runs.wait(thread_id, options.graph, input=NOTE)
        samples.append(since(start))
    return [Result("runs.wait, fresh thread each", "ms", samples)]


async def stream(client: LangGraphClient, options: Options) -> list[Result]:
    """Stream runs, and note when the first event and the first state arrive, and when the stream ends."""
    first: list[float] = []
    state: list[float] = []
    end: list[float] = []
    for _ in range(options.runs):
        thread_id = await fresh_thread(client)
        start = time.perf_counter()
        events: list[tuple[str, float]] = []
        async for event in client.runs.stream(thread_id, options.graph, input=NOTE, stream_mode="values"):
            events.append((event.event, since(start)))
        end.append(since(start))
        first.append(events[0][1])
        state.append(next(at for name, at in events if name == "values"))
    return [
        Result("runs.stream, first event", "ms", first),
        Result("runs.stream, first values", "ms", state),
        Result("runs.stream, end", "ms", end),
    ]


async def load(_client: LangGraphClient, options: Options) -> list[Result]:
    """Let clients create and join runs in closed loops, each run on a thread of its own."""
    deadline = time.perf_counter() + options.seconds
    latencies: list[float] = []

    async def loop() -> None:
        async with get_client(url=options.url) as client:
            for _ in range(RUNS_PER_CLIENT):
                if time.perf_counter() >= deadline:
                    return
                latencies.append(await create_and_join(client, options.graph, await fresh_thread(client)))

    start = time.perf_counter()
    await asyncio.gather(*(loop() for _ in range(options.clients)))
    rate = len(latencies) / (time.perf_counter() - start)
    return [
        Result(f"{options.clients} clients, throughput", "runs/s", [rate]),
        Result(f"{options.clients} clients, create -> join", "ms", latencies),
    ]


async def interrupt(client: LangGraphClient, options: Options) -> list[Result]:
    """Interrupt a run whose node sleeps, and time its successor from its creation to its join."""
    samples: list[float] = []
    for _ in range(options.runs):
        thread_id = await fresh_thread(client)
        await start_sleeping(client, options.sleeper, thread_id)
        start = time.perf_counter()
        run = await client.runs.create(thread_id, options.sleeper, input={"seconds": 0}, multitask_strategy="interrupt")
        await client.runs.join(thread_id, run["run_id"])
        samples.append(since(start))
        statuses = [r["status"] for r in await client.runs.list(thread_id)]
        if statuses != ["success", "interrupted"]:
            raise SystemExit(f"The statuses of successor and interrupted run are {statuses}.")
    return [Result("interrupt -> successor done", "ms", samples)]


async def start_sleeping(client: LangGraphClient, graph: str, thread_id: str) -> None:
    """Start a run that sleeps for a minute, and return when its node has said so."""
    events = client.runs.stream(thread_id, graph, input={"seconds": 60}, stream_mode="custom", on_disconnect="continue")
    # Leaving the stream leaves the run alone. The SDK types its generator as an iterator, which has no aclose.
    async with aclosing(cast(Any, events)) as live:
        async for event in live:
            if event.event == "custom":
                return
    raise SystemExit("The run of the sleeper ended before it was interrupted.")


MEASUREMENTS: dict[str, Callable[[LangGraphClient, Options], Awaitable[list[Result]]]] = {
    "join-fresh": join_fresh,
    "join-same": join_same,
    "wait": wait,
    "stream": stream,
    "load": load,
    "interrupt": interrupt,
}


async def machine(client: LangGraphClient) -> dict[str, Any]:
    """Describe where this runs, so that numbers are compared only with their like."""
    try:
        info = await client.http.get("/info")
    except httpx.HTTPError:
        info = {}
    return {
        **{f"server {key}": value for key, value in info.items() if key.endswith("version")},
        "client langgraph_sdk": langgraph_sdk.__version__,
        "client python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
    }


async def measure(options: Options) -> dict[str, Any]:
    """Take every measurement that is asked for, one after the other."""
    async with get_client(url=options.url) as client:
        for _ in range(WARM_UP):
            await create_and_join(client, options.graph, await fresh_thread(client))
        before = os.getloadavg()
        results: list[Result] = []
        for name, take in MEASUREMENTS.items():
            if not options.only or name in options.only:
                results += await take(client, options)
        return {
            "url": options.url,
            "graph": options.graph,
            "machine": await machine(client),
            "load_before": before,
            "load_after": os.getloadavg(),
            "results": [result.summary() for result in results],
        }


def table(report: dict[str, Any]) -> str:
    """Write a report for people."""
    columns = ("min", "median", "p95", "max")
    lines = [f"{'':<36}{'n':>6}" + "".join(f"{column:>10}" for column in columns)]
    for row in report["results"]:
        figures = "".join(f"{row[column]:>10.1f}" for column in columns)
        lines.append(f"{row['name']:<36}{row['n']:>6}{figures} {row['unit']}")
    loads = (f"load {when} {', '.join(f'{x:.2f}' for x in report[f'load_{when}'])}" for when in ("before", "after"))
    lines += ["", f"{report['url']}  graph {report['graph']}", *loads]
    lines += [", ".join(f"{key} {value}" for key, value in report["machine"].items())]
    return "\n".join(lines)


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8123", help="base URL of the server")
    parser.add_argument("--graph", default="noop3", help="graph of three nodes that do nothing")
    parser.add_argument("--sleeper", default="sleeper", help="graph whose node sleeps for `seconds`")
    parser.add_argument("--runs", type=int, default=50, help="samples of each measurement")
    parser.add_argument("--clients", type=int, default=20, help="clients of the closed loop")
    parser.add_argument("--seconds", type=float, default=10, help="seconds that the closed loop takes")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--only", action="append", default=[], choices=MEASUREMENTS, help="take only this one")
    return Options(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    chosen = parse(sys.argv[1:])
    taken = asyncio.run(measure(chosen))
    print(json.dumps(taken, indent=2) if chosen.json else table(taken))
