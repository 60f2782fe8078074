"""A delivery by itself."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from durathread.activities.deliver import AT_ONCE, Deliveries
from durathread.activities.resources import Resources
from durathread.config.settings import Settings
from durathread.db.pool import connection
from durathread.embedded.engines import Engines
from durathread.graphs.registry import Graphs
from durathread.workflows.messages import UNDELIVERED, Delivered, Delivery
from tests.eventually import eventually
from tests.receiver import receiving
from tests.stack import GRAPHS

OWE = """
INSERT INTO outbox (run_id, thread_id, assistant_id, graph_id, url, status, run, known)
VALUES (%(run)s, gen_random_uuid(), gen_random_uuid(), 'agent', %(url)s, 'success', %(body)s, TRUE)
"""


@pytest.fixture
async def resources(engine_set: Engines, database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Resources]:
    """What a worker has open that may call back on this machine."""
    monkeypatch.setenv("LG_WEBHOOK_TOKEN", "t0ken")
    config = GRAPHS.parent / "webhooks.json"
    settings = Settings(database_url=database, redis_url=engine_set.redis_url, config=config, pool_size=4)
    async with Resources(settings, Graphs.load(config)).opened() as found:
        yield found


async def owe(resources: Resources, url: str) -> Delivery:
    """Put a run into the outbox."""
    run_id = str(uuid4())
    async with connection(resources.pool) as conn:
        await conn.execute(OWE, {"run": run_id, "url": url, "body": Jsonb({"run_id": run_id, "kwargs": {}})})
    return Delivery(run_id)


async def test_a_receiver_gets_no_more_than_its_share_of_a_process(resources: Resources) -> None:
    deliveries = Deliveries(resources)
    async with receiving() as hanging, receiving() as other:
        hanging.answers["/"] = [None] * AT_ONCE
        owed = [await owe(resources, hanging.url("/")) for _ in range(AT_ONCE)]
        under_way = [asyncio.create_task(ActivityEnvironment().run(deliveries.deliver, each)) for each in owed]
        await hanging.got("/", AT_ONCE)
        with pytest.raises(ApplicationError, match="under way") as refused:
            await ActivityEnvironment().run(deliveries.deliver, await owe(resources, hanging.url("/")))
        assert (refused.value.type, refused.value.non_retryable) == (UNDELIVERED, False)
        assert refused.value.next_retry_delay == timedelta(seconds=2)
        elsewhere = await owe(resources, f"http://localhost:{other.port}/")
        assert await ActivityEnvironment().run(deliveries.deliver, elsewhere) == Delivered(elsewhere.run_id, 200)
        hanging.released.set()
        assert {outcome.status for outcome in await asyncio.gather(*under_way)} == {200}

        async def has_room() -> bool:
            again = await owe(resources, hanging.url("/"))
            return (await ActivityEnvironment().run(deliveries.deliver, again)).status == 200

        await eventually(has_room)


async def test_what_is_owed_no_more_is_not_sent(resources: Resources) -> None:
    deliveries = Deliveries(resources)
    async with receiving() as receiver:
        owed = await owe(resources, receiver.url("/"))
        await deliveries.discard(owed.run_id)
        assert await ActivityEnvironment().run(deliveries.deliver, owed) == Delivered(owed.run_id, 0)
        assert receiver.received == []


async def test_a_receiver_that_is_not_there_is_tried_again(resources: Resources) -> None:
    async with receiving() as gone:
        url = gone.url("/")
    with pytest.raises(ApplicationError) as failed:
        await ActivityEnvironment().run(Deliveries(resources).deliver, await owe(resources, url))
    assert (failed.value.type, failed.value.non_retryable) == (UNDELIVERED, False)


async def test_a_receiver_that_says_nothing_is_tried_again(resources: Resources) -> None:
    async with receiving() as receiver:
        receiver.answers["/"] = [None]
        owed = await owe(resources, receiver.url("/"))
        hasty = replace(owed, patience=replace(owed.patience, timeout=0.3))
        with pytest.raises(ApplicationError, match="TimeoutError") as failed:
            await ActivityEnvironment().run(Deliveries(resources).deliver, hasty)
        assert (failed.value.type, failed.value.non_retryable) == (UNDELIVERED, False)
