"""The benchmark on the cluster and on the embedded engines, in turn and in the same minutes."""

import asyncio
import json
import re
import statistics
import sys
from asyncio.subprocess import PIPE
from collections import defaultdict
from pathlib import Path

import pytest

from durathread.db.migrate import upgrade
from durathread.embedded import engines as embedded
from durathread.embedded.engines import Engines
from tests.cluster.compose import ROOT
from tests.cluster.deployment import deployed
from tests.cluster.report import REPORT
from tests.conftest import environment_of
from tests.stack import running

BENCHMARKS = ROOT / "benchmarks"
GRAPHS = BENCHMARKS / "graphs" / "langgraph.json"
ROUNDS = 2
RUN = ("--json", "--runs", "10", "--seconds", "5")
RUN_ALONE = ("--runs", "12")
ALONE = re.compile(r"median (?P<median>[\d.]+) ms, p95 (?P<p95>[\d.]+) ms\n\d+ clients: (?P<rate>[\d.]+) runs/s")

Figures = dict[str, list[float]]


@pytest.mark.timeout(1800)
async def test_the_benchmark_runs_on_both(engine_set: Engines, tmp_path: Path) -> None:
    async with embedded.engines(tmp_path / "embedded", headless=True) as ours:
        upgrade(ours.database_url)
        environment = environment_of(ours, queue="bench", config=GRAPHS)
        async with (
            running(environment, tmp_path / "here") as here,
            deployed(engine_set, tmp_path / "there", config=GRAPHS, apis=1, workers=1) as there,
        ):
            places = {"embedded": (here.url, ours), "cluster": (there.urls[0], engine_set)}
            found: dict[str, Figures] = {name: defaultdict(list) for name in places}
            for _ in range(ROUNDS):
                for name, (url, engines) in places.items():
                    await measure(found[name], url=url, address=engines.temporal_address)
    report(found)
    assert all(len(samples) == ROUNDS for figures in found.values() for samples in figures.values())


async def measure(figures: Figures, *, url: str, address: str) -> None:
    """Take every measurement once."""
    measured = json.loads(await output("run.py", "--url", url, *RUN))
    for row in measured["results"]:
        figures[f"{row['name']}, {row['unit']}"].append(row["median"])
        if row["unit"] == "ms":
            figures[f"  p95, {row['name']}"].append(row["p95"])
    alone = ALONE.search(await output("temporal_alone.py", "--address", address, *RUN_ALONE))
    assert alone is not None
    figures["Temporal alone, ms"].append(float(alone["median"]))
    figures["Temporal alone, 20 clients, runs/s"].append(float(alone["rate"]))


async def output(script: str, *arguments: str) -> str:
    """Run a program of benchmarks/ and return what it prints."""
    process = await asyncio.create_subprocess_exec(sys.executable, BENCHMARKS / script, *arguments, stdout=PIPE)
    try:
        printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0
    return printed.decode()


def report(found: dict[str, Figures]) -> None:
    """Report each figure of each round, and the ratio of the medians."""
    heading = f"Benchmark: {ROUNDS} rounds in turn, one API and one worker each"
    REPORT.add(heading, f"{'':<44}{'embedded':>18}{'cluster':>18}{'ratio':>8}")
    for name, here in found["embedded"].items():
        there = found["cluster"][name]
        columns = "".join(
            f"{' '.join(f'{sample:.0f}' if sample >= 100 else f'{sample:.1f}' for sample in each):>18}"
            for each in (here, there)
        )
        REPORT.add(heading, f"{name:<44}{columns}{statistics.median(there) / statistics.median(here):>8.2f}")
