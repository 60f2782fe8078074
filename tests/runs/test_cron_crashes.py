"""Crashes between a cron's row and its schedule, and between a firing and its run: both sides come together again."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import InternalServerError
from temporalio.client import Client, Schedule, ScheduleActionStartWorkflow, ScheduleSpec

from durathread.config.settings import Settings
from durathread.db.migrate import upgrade
from durathread.embedded.engines import Engines
from durathread.plugin import DurathreadPlugin
from durathread.workflows.messages import Sweep
from tests.conftest import environment_of
from tests.engines import engines
from tests.eventually import eventually
from tests.runs.crons import YEARLY, create, exists, fire, firings, trigger
from tests.stack import GRAPHS, Stack, running

QUEUE = "cron-crashes"
# Whoever writes a cron or takes on a firing waits while a test holds this lock.
HOLD = """
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END $$;
CREATE TRIGGER hold AFTER INSERT OR UPDATE ON cron FOR EACH ROW EXECUTE FUNCTION hold();
CREATE TRIGGER hold AFTER INSERT ON cron_firing FOR EACH ROW EXECUTE FUNCTION hold();
"""
WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted"

Connection = psycopg.AsyncConnection[Any]


@pytest.fixture(scope="module")
async def own_engines(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engines]:
    """Engines that may be killed."""
    async with engines(tmp_path_factory.mktemp("engines")) as started:
        upgrade(started.database_url)
        yield started


@pytest.fixture(scope="module")
async def stack(own_engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A server on them."""
    async with running(environment_of(own_engines, queue=QUEUE), tmp_path_factory.mktemp("logs")) as found:
        yield found


@pytest.fixture
async def own_client(stack: Stack) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=stack.url) as found:
        yield found


@pytest.fixture(scope="module")
async def own_temporal(own_engines: Engines, stack: Stack) -> Client:
    """A Temporal client with the plugin."""
    assert stack
    settings = Settings(database_url=own_engines.database_url, redis_url=own_engines.redis_url, config=GRAPHS)
    return await Client.connect(own_engines.temporal_address, plugins=[DurathreadPlugin(settings)])


@pytest.fixture(scope="module")
async def conn(own_engines: Engines) -> AsyncIterator[Connection]:
    """The database, with the triggers."""
    async with await psycopg.AsyncConnection.connect(own_engines.database_url, autocommit=True) as found:
        await found.execute(HOLD)
        yield found


@asynccontextmanager
async def held(conn: Connection) -> AsyncGenerator[None]:
    """Make whoever writes a cron wait."""
    await conn.execute("SELECT pg_advisory_lock(7)")
    try:
        yield
    finally:
        await conn.execute("SELECT pg_advisory_unlock(7)")


async def somebody_waits(conn: Connection) -> None:
    async def waits() -> bool:
        return await number(conn, WAITING) > 0

    await eventually(waits)


async def number(conn: Connection, query: Any, *args: Any) -> int:
    """Read one number."""
    row = await (await conn.execute(query, args)).fetchone()
    assert row
    return row[0]


async def sweep(temporal: Client, conn: Connection) -> None:
    """Sweep as if everything was written a while ago."""
    await conn.execute("UPDATE cron SET updated_at = updated_at - interval '1 minute'")
    await temporal.execute_workflow("Sweep", Sweep(), id=f"sweep-{uuid4()}", task_queue=QUEUE)


async def test_a_cron_that_temporal_does_not_take_is_not_there(
    own_engines: Engines, own_client: LangGraphClient, conn: Connection
) -> None:
    async with held(conn):
        # Temporal was there when the request came, and has gone when the row is written.
        creation = asyncio.create_task(create(own_client, metadata={"name": "lost"}))
        await somebody_waits(conn)
        own_engines.temporal.kill()
        await own_engines.temporal.wait()
    try:
        with pytest.raises(InternalServerError) as raised:
            await creation
        assert raised.value.response.status_code == 503
        with pytest.raises(InternalServerError):
            await create(own_client, metadata={"name": "lost"})
        assert await own_client.crons.count(metadata={"name": "lost"}) == 0
    finally:
        await own_engines.temporal.start()


async def test_a_change_that_temporal_does_not_take_is_undone(
    own_engines: Engines, own_client: LangGraphClient, own_temporal: Client, conn: Connection
) -> None:
    cron = await eventually(lambda: accepted(own_client))
    async with held(conn):
        change = asyncio.create_task(own_client.crons.update(cron["cron_id"], enabled=False, metadata={"a": 1}))
        await somebody_waits(conn)
        own_engines.temporal.kill()
        await own_engines.temporal.wait()
    try:
        with pytest.raises(InternalServerError):
            await change
        found: Any = await own_client.http.get(f"/runs/crons/{cron['cron_id']}")
        assert {**found, "updated_at": cron["updated_at"]} == cron
    finally:
        await own_engines.temporal.start()
    await sweep(own_temporal, conn)
    schedule = await own_temporal.get_schedule_handle(f"cron/{cron['cron_id']}").describe()
    assert not schedule.schedule.state.paused
    assert await number(conn, "SELECT count(*) FROM cron WHERE NOT scheduled") == 0


async def test_a_cron_whose_api_died_before_it_was_scheduled_is_scheduled(
    own_engines: Engines, stack: Stack, own_client: LangGraphClient, own_temporal: Client, conn: Connection
) -> None:
    await eventually(lambda: accepted(own_client))
    async with held(conn):
        creation = asyncio.create_task(create(own_client, metadata={"name": "orphan"}))
        await somebody_waits(conn)
        own_engines.temporal.kill()
        await own_engines.temporal.wait()

    async def written() -> bool:
        return await number(conn, 'SELECT count(*) FROM cron WHERE metadata @> \'{"name": "orphan"}\'') == 1

    await eventually(written)
    await stack.kill("api")
    with pytest.raises(httpx.TransportError):
        await creation
    await own_engines.temporal.start()
    await stack.start("api")
    await stack.ready()
    [cron] = await own_client.crons.search(metadata={"name": "orphan"})
    assert not await exists(own_temporal, cron["cron_id"])
    await sweep(own_temporal, conn)
    assert await exists(own_temporal, cron["cron_id"])
    assert (await fire(own_temporal, cron["cron_id"])).status == "admitted"


async def test_a_schedule_that_somebody_has_deleted_is_made_again(
    own_client: LangGraphClient, own_temporal: Client, conn: Connection
) -> None:
    cron = await eventually(lambda: accepted(own_client))
    await own_temporal.get_schedule_handle(f"cron/{cron['cron_id']}").delete()
    await listed(own_temporal, cron["cron_id"], there=False)
    await sweep(own_temporal, conn)
    assert await exists(own_temporal, cron["cron_id"])


async def test_a_cron_that_cannot_be_scheduled_holds_up_no_other(
    own_client: LangGraphClient, own_temporal: Client, conn: Connection
) -> None:
    spoilt = (await eventually(lambda: accepted(own_client)))["cron_id"]
    query: Any = "UPDATE cron SET schedule = 'no schedule', scheduled = false WHERE cron_id = %s"
    await conn.execute(query, (spoilt,))
    cron = await eventually(lambda: accepted(own_client))
    await own_temporal.get_schedule_handle(f"cron/{cron['cron_id']}").delete()
    await listed(own_temporal, cron["cron_id"], there=False)
    await sweep(own_temporal, conn)
    assert await exists(own_temporal, cron["cron_id"])
    assert await number(conn, "SELECT count(*) FROM cron WHERE NOT scheduled") == 1
    await conn.execute("DELETE FROM cron WHERE cron_id = %s", (spoilt,))
    await sweep(own_temporal, conn)


async def test_a_schedule_without_a_cron_is_deleted_unless_it_is_anothers(
    own_client: LangGraphClient, own_temporal: Client, conn: Connection
) -> None:
    cron = await eventually(lambda: accepted(own_client))
    kept = await eventually(lambda: accepted(own_client))
    others = str(uuid4())
    action = ScheduleActionStartWorkflow("Cron", id="cron", task_queue="elsewhere")
    schedule = Schedule(action=action, spec=ScheduleSpec(cron_expressions=[YEARLY]))
    await own_temporal.create_schedule(f"cron/{others}", schedule, memo={"task_queue": "elsewhere"})
    for cron_id in (cron["cron_id"], kept["cron_id"], others):
        await listed(own_temporal, cron_id, there=True)
    await conn.execute("DELETE FROM cron WHERE cron_id = %s", (cron["cron_id"],))
    await sweep(own_temporal, conn)
    assert [await exists(own_temporal, cron_id) for cron_id in (cron["cron_id"], kept["cron_id"], others)] == [
        False,
        True,
        True,
    ]


async def test_a_worker_that_dies_between_a_firing_and_its_run_costs_nothing_and_repeats_nothing(
    stack: Stack, own_client: LangGraphClient, own_temporal: Client, conn: Connection, thread_id: str
) -> None:
    await own_client.threads.create(thread_id=thread_id)
    cron = await create(own_client, thread_id=thread_id)
    async with held(conn):
        await trigger(own_temporal, cron["cron_id"])
        await somebody_waits(conn)
        await stack.kill("worker")
    await stack.start("worker")
    [fired] = await firings(own_temporal, cron["cron_id"])
    result: Any = await own_client.runs.join(thread_id, fired.run_id)
    assert result["log"] == ["cron", "a", "b", "c"]
    assert len(await own_client.runs.list(thread_id)) == 1
    assert await number(conn, "SELECT count(*) FROM cron_firing WHERE cron_id = %s", cron["cron_id"]) == 1


async def test_firings_that_no_worker_took_are_one_when_it_is_back(
    stack: Stack, own_client: LangGraphClient, own_temporal: Client, thread_id: str
) -> None:
    await own_client.threads.create(thread_id=thread_id)
    await stack.stop("worker")
    cron = await create(own_client, thread_id=thread_id, schedule="* * * * * *")
    handle = own_temporal.get_schedule_handle(f"cron/{cron['cron_id']}")

    async def missed() -> bool:
        return (await handle.describe()).info.num_actions_skipped_overlap >= 3

    await eventually(missed)
    await own_client.crons.update(cron["cron_id"], schedule=YEARLY)
    await stack.start("worker")
    [fired] = await firings(own_temporal, cron["cron_id"])
    await own_client.runs.join(thread_id, fired.run_id)
    assert len(await own_client.runs.list(thread_id)) == 1


async def accepted(client: LangGraphClient) -> Any:
    """Create a cron; None while Temporal is not there yet."""
    try:
        return await create(client)
    except InternalServerError:
        return None


async def listed(temporal: Client, cron_id: str, *, there: bool) -> None:
    """Wait until Temporal lists a schedule, or does not: its lists are some time behind."""

    async def seen() -> bool:
        found = {schedule.id async for schedule in await temporal.list_schedules()}
        return (f"cron/{cron_id}" in found) == there

    await eventually(seen)
