"""Measure servers in turn, so that what else the machine does befalls all of them alike; write a table for the README.

Each is given by a name and an URL, and by the ids of its processes if its processor time is to be measured: of a supervisor, such as
`durathread dev`, the id is enough. Beside them, in the same minutes, Temporal alone.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from langgraph_sdk import get_client
from plot import svg
from processes import spent
from run import MEASUREMENTS, WARM_UP, Options, create_and_join, fresh_thread

HERE = Path(__file__).parent
LATENCIES = ("join-fresh", "wait", "stream", "interrupt")


@dataclass(frozen=True)
class Server:
    """A server that is measured."""

    name: str
    url: str
    pids: tuple[int, ...] = ()


# What was measured of a server, by the name of the row.
Figures = Mapping[str, float]


def server_of(text: str) -> Server:
    """Read `NAME=URL[,PID...]`."""
    name, _, rest = text.partition("=")
    url, *pids = rest.split(",")
    if not (name and url):
        raise argparse.ArgumentTypeError("NAME=URL[,PID...] is expected")
    return Server(name, url, tuple(map(int, pids)))


async def latencies(server: Server, given: argparse.Namespace) -> Figures:
    """Take the median of each measurement of `run.py`, one run at a time."""
    options = Options(server.url, given.graph, given.sleeper, given.runs, 1, 0, json=False)
    found: dict[str, float] = {}
    async with get_client(url=server.url) as client:
        for _ in range(WARM_UP):
            await create_and_join(client, options.graph, await fresh_thread(client))
        for name in LATENCIES:
            if name == "interrupt" and given.no_interrupts:
                continue
            for result in await MEASUREMENTS[name](client, options):
                found[f"{result.name}, ms"] = statistics.median(result.samples)
    return found


async def load(server: Server, clients: int, given: argparse.Namespace) -> Figures:
    """Let clients create and join runs in closed loops; count runs a second, and processor time a run."""
    before, began, taken = spent(server.pids), time.perf_counter(), list[float]()

    async def loop() -> None:
        async with get_client(url=server.url) as client:
            while time.perf_counter() - began < given.seconds:
                taken.append(await create_and_join(client, given.graph, await fresh_thread(client)))

    await asyncio.gather(*(loop() for _ in range(clients)))
    rate = len(taken) / (time.perf_counter() - began)
    found = {f"{clients} clients, runs/s": rate, f"{clients} clients, median ms": statistics.median(taken)}
    after = spent(server.pids)
    return found | {
        f"{clients} clients, CPU ms a run, {name}": (after[name] - before.get(name, 0)) / len(taken) for name in after
    }


def alone(given: argparse.Namespace) -> Figures:
    """Measure Temporal without any server."""
    command = [sys.executable, str(HERE / "temporal_alone.py"), "--address", given.temporal, "--steps", "1"]
    options = ["--runs", str(given.runs), "--clients", str(given.clients[-1]), "--bursts"]
    said = subprocess.run([*command, *options], capture_output=True, text=True, check=True).stdout
    first, second, *_ = said.splitlines()
    median = float(first.partition("median ")[2].partition(" ms")[0])
    rate, cpu = (
        float(second.partition(before)[2].partition(after)[0]) for before, after in ((": ", " runs/s"), ("; ", " ms"))
    )
    clients = given.clients[-1]
    return {
        "create -> join, fresh thread each, ms": median,
        f"{clients} clients, runs/s": rate,
        f"{clients} clients, CPU ms a run, worker": cpu,
    }


async def measure(given: argparse.Namespace) -> dict[str, list[Figures]]:
    """Measure all in turn, as often as is asked for."""
    found: dict[str, list[Figures]] = {}
    for _ in range(given.rounds):
        for server in given.server:
            figures = dict(await latencies(server, given))
            for clients in given.clients:
                figures |= await load(server, clients, given)
            found.setdefault(server.name, []).append(figures)
        if given.temporal:
            found.setdefault("Temporal alone", []).append(await asyncio.to_thread(alone, given))
    return found


def medians(found: Mapping[str, Sequence[Figures]]) -> dict[str, dict[str, float]]:
    """Reduce the rounds to their medians, by server and row."""
    return {
        name: {row: statistics.median(each[row] for each in rounds if row in each) for row in _rows(rounds)}
        for name, rounds in found.items()
    }


def _rows(rounds: Sequence[Figures]) -> list[str]:
    return list(dict.fromkeys(row for each in rounds for row in each))


def table(figures: Mapping[str, Mapping[str, float]]) -> str:
    """Write the medians as Markdown."""
    rows = dict.fromkeys(row for each in figures.values() for row in each)
    lines = [f"| | {' | '.join(figures)} |", "|---" * (len(figures) + 1) + "|"]
    for row in rows:
        cells = [f"{each[row]:.1f}" if row in each else "" for each in figures.values()]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def curves(figures: Mapping[str, Mapping[str, float]], clients: Sequence[int]) -> dict[str, list[tuple[float, float]]]:
    """Collect runs a second and latency of each server, by the number of clients."""
    return {
        name: [(each[f"{n} clients, runs/s"], each[f"{n} clients, median ms"]) for n in clients]
        for name, each in figures.items()
        if all(f"{n} clients, median ms" in each for n in clients)
    }


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", type=server_of, action="append", required=True, metavar="NAME=URL[,PID...]")
    parser.add_argument("--temporal", default="", help="address of the Temporal that is measured alone")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=20, help="samples of each latency in a round")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 5, 20], help="clients of the closed loops")
    parser.add_argument("--seconds", type=float, default=5, help="seconds that each closed loop takes")
    parser.add_argument("--graph", default="noop3", help="graph of three nodes that do nothing")
    parser.add_argument("--sleeper", default="sleeper", help="graph whose node sleeps for `seconds`")
    parser.add_argument("--no-interrupts", action="store_true", help="of servers that do not interrupt runs")
    parser.add_argument("--plot", type=Path, help="file for the plot of latency against load (SVG)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    chosen = parse(sys.argv[1:])
    loads = [os.getloadavg()[0]]
    reduced = medians(asyncio.run(measure(chosen)))
    loads.append(os.getloadavg()[0])
    print(table(reduced))
    print(f"\n{chosen.rounds} rounds, load {loads[0]:.1f} to {loads[1]:.1f}, {os.cpu_count()} processors")
    if chosen.plot:
        chosen.plot.write_text(svg(curves(reduced, chosen.clients)))
