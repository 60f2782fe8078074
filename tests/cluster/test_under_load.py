"""Processes that are killed, stopped and joined while clients are at work: every accepted run ends, and once."""

import signal
import time

import pytest

from durathread.embedded.child import Child
from tests.cluster.engines import SERVICES, Cluster
from tests.cluster.load import Load
from tests.cluster.report import REPORT

PAUSES = "The longest time that a client waited for the answer of a small run"


def note(load: Load, what: str, since: float) -> None:
    """Report what a client saw of an event."""
    REPORT.add(PAUSES, f"{what:<62}{load.probe.longest_pause(since):5.1f} s")


def service(load: Load, name: str) -> Child:
    """Find a service of Temporal."""
    assert isinstance(load.deployment.engines.temporal, Cluster)
    return load.deployment.engines.temporal.services[name]


async def test_runs_end_while_nothing_is_hurt(load: Load) -> None:
    async with load.at_work():
        since = time.monotonic()
        await load.progress(40)
        note(load, "nothing", since)
    assert await load.findings() == []


@pytest.mark.parametrize("name", SERVICES)
async def test_runs_survive_the_death_of_a_service_of_temporal(load: Load, name: str) -> None:
    killed = service(load, name)
    async with load.at_work():
        for _ in range(2):
            since = time.monotonic()
            killed.kill()
            await killed.wait()
            await killed.start()
            await load.progress()
            note(load, f"{name} killed and started again", since)
    assert await load.findings() == []


async def test_runs_survive_the_death_of_all_of_temporal(load: Load) -> None:
    temporal = load.deployment.engines.temporal
    async with load.at_work():
        since = time.monotonic()
        temporal.kill()
        await temporal.wait()
        await temporal.start()
        await load.progress()
        note(load, "all of Temporal killed and started again", since)
    assert await load.findings() == []


async def test_runs_survive_the_death_of_postgres_which_is_also_that_of_temporal(load: Load) -> None:
    postgres = load.deployment.engines.postgres
    async with load.at_work():
        since = time.monotonic()
        postgres.kill()
        await postgres.wait()
        await postgres.start()
        await load.progress()
        note(load, "Postgres killed and started again", since)
    assert await load.findings() == []


async def test_runs_survive_the_death_of_workers_and_apis(load: Load) -> None:
    first, second = load.deployment.stacks
    async with load.at_work():
        for stack, name in ((first, "worker"), (first, "worker1"), (first, "api"), (second, "api")):
            since = time.monotonic()
            await stack.kill(name)
            await stack.start(name, name.rstrip("1"))
            await load.progress()
            note(load, f"{name.rstrip('1')} of two killed and started again", since)
    assert await load.findings() == []


async def test_a_rolling_restart_of_our_own_costs_nothing(load: Load) -> None:
    first, second = load.deployment.stacks
    async with load.at_work():
        since = time.monotonic()
        for stack, name in ((first, "worker"), (first, "worker1"), (first, "api"), (second, "api")):
            # uvicorn stops in order, and then ends by the signal that it was sent.
            assert await stack.stop(name) in (0, -signal.SIGTERM)
            await stack.start(name, name.rstrip("1"))
            if name == "api":
                await stack.ready()
            await load.progress()
        note(load, "rolling restart of two workers and two APIs", since)
    assert await load.findings() == []


async def test_a_rolling_restart_of_temporal_loses_nothing(load: Load) -> None:
    async with load.at_work():
        for name in SERVICES:
            restarted = service(load, name)
            since = time.monotonic()
            restarted.send(signal.SIGTERM)
            await restarted.wait()
            await restarted.start()
            await load.progress()
            note(load, f"{name} stopped and started again", since)
    assert await load.findings() == []


@pytest.mark.parametrize("kind", ["history", "matching"])
async def test_a_second_process_of_a_service_joins_and_is_killed(load: Load, kind: str) -> None:
    """Shards and task queues move to it, and back."""
    temporal = load.deployment.engines.temporal
    assert isinstance(temporal, Cluster)
    second = temporal.second(kind)
    async with load.at_work():
        try:
            since = time.monotonic()
            await second.start()
            await load.progress(40)
            note(load, f"a second {kind} joins", since)
            since = time.monotonic()
            second.kill()
            await second.wait()
            await load.progress(40)
            note(load, f"one {kind} of two is killed", since)
        finally:
            await second.stop()
    assert await load.findings() == []
