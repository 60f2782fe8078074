"""A server of two connections: no route holds one while it asks for another, or waits for somebody else."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk import get_client

from durathread.embedded.engines import Engines
from tests.conftest import environment_of
from tests.contract.calling import Caller, methods
from tests.contract.test_every_method import scenario_of
from tests.stack import Stack, running

# Scenarios at once: more than there are connections.
AT_ONCE = 8
# No answer that waits for nobody takes this long, in seconds; Temporal is waited for 5.
SOON = 4.5
PRUNES = 40
# Scenarios that count what everybody has.
ALONE = {"assistants.count", "assistants.search", "crons.count", "crons.search", "threads.count", "threads.search"}


@pytest.fixture(scope="module")
async def narrow(engine_set: Engines, database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A server each of whose processes has two connections."""
    assert database
    environment = {**environment_of(engine_set, queue="narrow"), "DURATHREAD_POOL_SIZE": "2"}
    async with running(environment, tmp_path_factory.mktemp("narrow")) as stack:
        yield stack


async def test_every_method_keeps_its_promise_with_two_connections(narrow: Stack) -> None:
    turns = asyncio.Semaphore(AT_ONCE)

    async def keep(method: str) -> None:
        async with turns, get_client(url=narrow.url) as client:
            await scenario_of(method)(Caller(client))

    await asyncio.gather(*(keep(method) for method in methods() if method not in ALONE))
    for method in ALONE:
        await keep(method)


async def test_many_prunes_at_once_find_their_connections(narrow: Stack) -> None:
    async with httpx.AsyncClient(base_url=narrow.url, timeout=60) as http:

        async def ran() -> str:
            thread_id = str(uuid4())
            body = {"assistant_id": "agent", "input": {"log": []}, "if_not_exists": "create"}
            assert (await http.post(f"/threads/{thread_id}/runs/wait", json=body)).status_code == 200
            return thread_id

        thread_ids = await asyncio.gather(*(ran() for _ in range(4)))
        body = {"thread_ids": thread_ids, "strategy": "keep_latest"}
        answers = await asyncio.gather(*(http.post("/threads/prune", json=body) for _ in range(PRUNES)))
        assert {answer.status_code for answer in answers} == {200}
        for thread_id in thread_ids:
            assert len((await http.get(f"/threads/{thread_id}/history?limit=100")).json()) == 1


async def test_who_waits_for_a_frozen_temporal_holds_no_connection(narrow: Stack, engine_set: Engines) -> None:
    cron = {"assistant_id": "agent", "schedule": "0 0 1 1 *", "input": {"log": []}}
    async with httpx.AsyncClient(base_url=narrow.url, timeout=60) as http:
        thread_id = (await http.post("/threads", json={})).json()["thread_id"]
        created = (await http.post("/runs/crons", json=cron)).json()["cron_id"]
        engine_set.temporal.send(signal.SIGSTOP)
        try:
            # Temporal has answered a moment ago, so it is taken to be there.
            waiting = [
                *(asyncio.create_task(http.post("/runs/crons", json=cron)) for _ in range(4)),
                *(asyncio.create_task(http.patch(f"/runs/crons/{created}", json={"enabled": False})) for _ in range(2)),
                *(asyncio.create_task(http.delete(f"/runs/crons/{created}")) for _ in range(2)),
                asyncio.create_task(http.post(f"/threads/{thread_id}/runs", json={"assistant_id": "agent"})),
            ]
            begun = time.monotonic()
            for path in ("/ok", f"/threads/{thread_id}", f"/threads/{thread_id}/state", "/ok?check_db=1"):
                assert (await http.get(path)).status_code == 200
            assert time.monotonic() - begun < SOON
            assert not all(task.done() for task in waiting)
        finally:
            engine_set.temporal.send(signal.SIGCONT)
        assert {answer.status_code for answer in await asyncio.gather(*waiting)} <= {200, 204, 404, 503}
