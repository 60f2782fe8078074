"""The owner of background parts: none of them ends in silence."""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest
from langgraph_sdk import get_client
from redis.asyncio import Redis
from temporalio.client import Client
from temporalio.worker import Worker

from durathread.config.settings import Settings
from durathread.embedded.engines import Engines
from durathread.errors import PartEnded, Unavailable
from durathread.plugin import DurathreadPlugin
from durathread.process.lifecycle import Owner
from durathread.streams.events import NEWS
from durathread.streams.presence import Interest
from tests import stack as stacks
from tests.conftest import environment_of
from tests.stack import GRAPHS, Stack

BROKEN_WORKER = """
from durathread.streams.presence import Interest
from durathread.worker import main

def break_down(self, thread_ids):
    raise ZeroDivisionError("interest is broken")

Interest._note = break_down
main()
"""
BROKEN_API = """
from durathread.api.serve import main
from durathread.streams.hub import Hub

def break_down(self, news):
    raise ZeroDivisionError("the hub is broken")

Hub._tell = break_down
main()
"""


async def fail() -> None:
    """End as a part may not."""
    raise ZeroDivisionError("broken")


async def last() -> None:
    """Never end."""
    await asyncio.Event().wait()


async def test_a_part_that_raises_is_the_failure_of_its_owner(caplog: pytest.LogCaptureFixture) -> None:
    owner = Owner()
    async with owner.keeping(last(), name="lasting"), owner.keeping(fail(), name="failing"):
        failure = await asyncio.wait_for(owner.failed(), 30)
    assert "failing" in str(failure)
    assert isinstance(failure.__cause__, ZeroDivisionError)
    assert owner.failure is failure


async def test_a_part_that_returns_or_is_cancelled_by_somebody_else_is_a_failure_too() -> None:
    for work in (asyncio.sleep(0), last()):
        owner = Owner()
        async with owner.keeping(work, name="part"):
            for task in asyncio.all_tasks():
                if task.get_name() == "part":
                    asyncio.get_running_loop().call_soon(task.cancel)
            await asyncio.wait_for(owner.failed(), 30)


async def test_a_part_whose_block_is_left_is_stopped_and_no_failure() -> None:
    owner = Owner()
    async with owner.keeping(last(), name="part"):
        assert owner.failure is None
    await asyncio.sleep(0)
    assert owner.failure is None


async def test_what_waits_for_something_else_stops_when_a_part_ends() -> None:
    owner = Owner()
    with pytest.raises(PartEnded, match="part"):
        async with owner.keeping(fail(), name="part"):
            await owner.during(last())


async def test_a_cancellation_of_what_waits_stays_one() -> None:
    owner = Owner()
    waiting = asyncio.create_task(owner.during(last()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_an_errand_that_fails_is_nobody_elses_failure() -> None:
    async def be_away() -> None:
        raise Unavailable("The database is unavailable.")

    owner = Owner()
    owner.spawn(fail(), name="errand")
    owner.spawn(be_away(), name="errand")
    owner.spawn(last(), name="errand")
    await asyncio.sleep(0.01)
    assert owner.failure is None
    await owner.close()


async def test_a_worker_of_somebody_else_fails_with_a_part_of_ours(
    engine_set: Engines, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks = asyncio.Event()

    async def run(self: Interest) -> None:
        await breaks.wait()
        await fail()

    monkeypatch.setattr(Interest, "run", run)
    settings = Settings(database_url=database, redis_url=engine_set.redis_url, config=GRAPHS)
    plugin = DurathreadPlugin(settings)
    client = await Client.connect(engine_set.temporal_address, plugins=[plugin])

    async def work() -> None:
        async with Worker(client, task_queue=f"theirs-{uuid4()}"):
            await plugin.ready()
            breaks.set()
            await last()

    with pytest.raises(PartEnded, match="interest"):
        await work()


async def test_a_worker_that_has_lost_a_part_says_so_and_exits(
    engine_set: Engines, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert database
    monkeypatch.setitem(stacks.ROLES, "worker", BROKEN_WORKER)
    stack = Stack(environment_of(engine_set, queue="broken"), tmp_path)
    process = await stack.start("worker")
    assert await asyncio.wait_for(process.wait(), 90) == 1
    assert "ZeroDivisionError: interest is broken" in stack.log("worker")
    assert "in break_down" in stack.log("worker")


async def test_an_api_that_has_lost_a_part_says_so_and_exits(
    engine_set: Engines, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert database
    monkeypatch.setitem(stacks.ROLES, "api", BROKEN_API)
    stack = Stack(environment_of(engine_set, queue="broken"), tmp_path)
    process = await stack.start("api")
    await stack.ready()
    async with get_client(url=stack.url) as client, Redis.from_url(engine_set.redis_url) as redis:
        assert await client.assistants.count() > 0
        await redis.publish(NEWS, b"what is not JSON is nobody's failure")
        await redis.publish(NEWS, b"[[], {}]")
        assert await asyncio.wait_for(process.wait(), 60) == 1
    assert "ZeroDivisionError: the hub is broken" in stack.log("api")
    assert "Somebody else writes to our channel" in stack.log("api")
