"""The lifetimes of threads."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError
from temporalio.client import Client
from temporalio.service import RPCError

from durathread.config.langgraph_json import parse
from durathread.config.lifetimes import Expiry, ThreadTtl, expiry_of
from durathread.db import expiry
from durathread.db.pool import open_pool, transaction
from durathread.errors import ConfigError
from durathread.records import Lifetime
from durathread.temporal.connection import cron_schedule_id, expire_workflow_id
from durathread.workflows.messages import Expiration
from tests.eventually import eventually
from tests.runs.support import entered, log_of, start
from tests.stack import GRAPHS, Stack, running
from tests.workflows.support import closed, described

SOON = {"ttl": 0.0005}
"""In minutes: three hundredths of a second."""


async def lifetime_of(client: LangGraphClient, thread_id: str) -> Any:
    """Read a thread's `ttl`; None if it shows none."""
    thread: Any = await client.threads.get(thread_id, include=["ttl"])
    return thread.get("ttl")


async def is_gone(client: LangGraphClient, thread_id: str) -> bool:
    """Say whether there is no such thread."""
    try:
        await client.threads.get(thread_id)
    except NotFoundError:
        return True
    return False


async def sweep(temporal: Client, name: str, *, queue: str = "tests") -> int:
    """Look after all threads, once."""
    return await temporal.execute_workflow(
        "Expire", Expiration(), id=f"expire-{name}", task_queue=queue, result_type=int
    )


async def expires(database: str, *thread_ids: str) -> None:
    """Wait until threads have outlived their lifetime."""
    query = "SELECT bool_and(expires_at < now() AT TIME ZONE 'UTC') FROM thread WHERE thread_id = ANY(%s)"

    async def past() -> bool:
        async with await psycopg.AsyncConnection.connect(database) as conn:
            row = await (await conn.execute(query, ([UUID(each) for each in thread_ids],))).fetchone()
            return bool(row and row[0])

    await eventually(past)


@pytest.fixture(scope="module")
async def lasting(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A server whose threads have a lifetime, looked after every two seconds."""
    own = {
        **environment,
        "DURATHREAD_TASK_QUEUE": "lifetimes",
        "DURATHREAD_CONFIG": str(GRAPHS.parent / "ttl.json"),
    }
    del own["LANGGRAPH_THREAD_TTL"]
    async with running(own, tmp_path_factory.mktemp("lifetimes")) as found:
        yield found


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (30, ("delete", 30)),
        (0.5, ("delete", 0.5)),
        ({"ttl": 2}, ("delete", 2)),
        ({"ttl": 2, "strategy": "keep_latest"}, ("keep_latest", 2)),
    ],
)
async def test_a_thread_shows_how_long_it_lives(client: LangGraphClient, given: Any, shown: tuple[str, float]) -> None:
    thread = await client.threads.create(ttl=given)
    found = await lifetime_of(client, thread["thread_id"])
    assert (found["strategy"], found["ttl_minutes"]) == shown
    updated = datetime.fromisoformat(str(thread["updated_at"]))
    assert datetime.fromisoformat(found["expires_at"]) == updated + timedelta(minutes=shown[1])
    assert "ttl" not in await client.threads.get(thread["thread_id"])


async def test_a_lifetime_is_given_changed_and_taken_away(server: Stack, client: LangGraphClient) -> None:
    thread_id = (await client.threads.create())["thread_id"]
    assert await lifetime_of(client, thread_id) is None
    await client.threads.update(thread_id, metadata={}, ttl=5)
    assert (await lifetime_of(client, thread_id))["ttl_minutes"] == 5
    await client.threads.update(thread_id, metadata={"a": 1}, ttl={"ttl": 7, "strategy": "keep_latest"})
    await client.threads.update(thread_id, metadata={"b": 1})
    found = await lifetime_of(client, thread_id)
    assert (found["strategy"], found["ttl_minutes"]) == ("keep_latest", 7)
    async with httpx.AsyncClient(base_url=server.url) as http:
        # As the JavaScript SDK asks.
        answer = await http.get(f"/threads/{thread_id}", params={"include": '["ttl"]'})
        assert answer.json()["ttl"] == found
        raw = await http.post("/threads", json={"ttl": 9})
        assert (await lifetime_of(client, raw.json()["thread_id"]))["ttl_minutes"] == 9
        assert (await http.get(f"/threads/{thread_id}", params={"include": "tll"})).status_code == 422
        assert (await http.patch(f"/threads/{thread_id}", json={"ttl": None})).status_code == 200
    assert await lifetime_of(client, thread_id) is None


@pytest.mark.parametrize(
    "ttl",
    [0, -1, 1e12, True, "5", [], {}, {"ttl": None}, {"ttl": 0}, {"ttl": True}, {"ttl": 5, "strategy": "forget"}],
)
async def test_a_lifetime_that_cannot_be_is_refused(server: Stack, client: LangGraphClient, ttl: Any) -> None:
    thread_id = (await client.threads.create())["thread_id"]
    async with httpx.AsyncClient(base_url=server.url) as http:
        answers = [
            await http.post("/threads", json={"ttl": ttl}),
            await http.patch(f"/threads/{thread_id}", json={"ttl": ttl}),
        ]
    assert [answer.status_code for answer in answers] == [422, 422]
    assert all(isinstance(answer.json()["detail"], str) for answer in answers)


async def test_a_run_and_an_update_of_the_state_let_a_lifetime_begin_anew(client: LangGraphClient) -> None:
    thread_id = (await client.threads.create(ttl=60))["thread_id"]
    moments = [(await lifetime_of(client, thread_id))["expires_at"]]
    await client.runs.wait(thread_id, "agent", input={"log": ["in"]})
    moments.append((await lifetime_of(client, thread_id))["expires_at"])
    await client.threads.update_state(thread_id, {"log": ["more"]})
    moments.append((await lifetime_of(client, thread_id))["expires_at"])
    await client.threads.get_state(thread_id)
    assert moments == sorted(set(moments))
    assert (await lifetime_of(client, thread_id))["expires_at"] == moments[-1]


async def test_a_copy_lives_as_long_as_its_source(client: LangGraphClient) -> None:
    thread_id = (await client.threads.create(ttl={"ttl": 7, "strategy": "keep_latest"}))["thread_id"]
    copied: Any = await client.threads.copy(thread_id)
    found = await lifetime_of(client, copied["thread_id"])
    assert (found["strategy"], found["ttl_minutes"]) == ("keep_latest", 7)


async def test_a_thread_that_has_outlived_its_time_is_deleted_with_all_that_is_its(
    client: LangGraphClient, temporal: Client, database: str
) -> None:
    thread_id = (await client.threads.create(ttl=SOON))["thread_id"]
    await client.runs.wait(thread_id, "agent", input={"log": ["in"]})
    cron: Any = await client.crons.create_for_thread(thread_id, "agent", schedule="0 0 1 1 *")
    schedule = temporal.get_schedule_handle(cron_schedule_id(cron["cron_id"]))
    await schedule.describe()
    await expires(database, thread_id)
    assert await sweep(temporal, thread_id) >= 1
    assert await is_gone(client, thread_id)
    await closed(temporal, f"thread/{thread_id}")
    with pytest.raises(RPCError, match="not found"):
        await schedule.describe()
    tables = ("thread", "run", "cron", "checkpoints", "checkpoint_blobs", "checkpoint_writes")
    async with await psycopg.AsyncConnection.connect(database) as conn:
        for table in tables:
            query: Any = f"SELECT count(*) FROM {table} WHERE thread_id::text = %s"
            assert await (await conn.execute(query, (thread_id,))).fetchone() == (0,), table


async def test_a_thread_may_lose_its_history_and_live_on(
    client: LangGraphClient, temporal: Client, database: str
) -> None:
    thread_id = (await client.threads.create(ttl={**SOON, "strategy": "keep_latest"}))["thread_id"]
    await client.runs.wait(thread_id, "agent", input={"log": ["in"]})
    before = await client.threads.get(thread_id)
    assert len(await client.threads.get_history(thread_id)) > 1
    await expires(database, thread_id)
    old = (await lifetime_of(client, thread_id))["expires_at"]
    assert await sweep(temporal, thread_id) >= 1
    assert len(await client.threads.get_history(thread_id)) == 1
    assert await log_of(client, thread_id) == ["in", "a", "b", "c"]
    assert await client.threads.get(thread_id) == before
    # And has another lifetime before it.
    assert (await lifetime_of(client, thread_id))["expires_at"] > old
    result: Any = await client.runs.wait(thread_id, "agent", input={"log": ["again"]})
    assert result["log"] == ["in", "a", "b", "c", "again", "a", "b", "c"]


async def test_a_thread_with_a_run_in_flight_is_left_alone(
    client: LangGraphClient, temporal: Client, database: str, tmp_path: Path
) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "b"
    working, waiting = [(await client.threads.create(ttl=SOON))["thread_id"] for _ in range(2)]
    do = {"b": {"trace": str(trace), "until": str(gate)}}
    run = await start(client, working, "in", do=do, if_not_exists="reject")
    delayed = await start(client, waiting, "in", after_seconds=3600, if_not_exists="reject")
    await entered(trace)
    await expires(database, working, waiting)
    await sweep(temporal, working)
    assert not await is_gone(client, working)
    assert not await is_gone(client, waiting)
    gate.touch()
    result: Any = await client.runs.join(working, run["run_id"])
    assert result["log"] == ["in", "a", "b", "c"]
    await client.runs.cancel(waiting, delayed["run_id"])
    await expires(database, working, waiting)
    await sweep(temporal, waiting)
    assert await is_gone(client, working)
    assert await is_gone(client, waiting)


async def test_a_run_that_is_admitted_at_that_moment_saves_its_thread(client: LangGraphClient, database: str) -> None:
    """The sweep finds a thread, waits for its lock, and then sees what it was waiting for."""
    thread_id = (await client.threads.create(ttl=SOON))["thread_id"]
    await expires(database, thread_id)
    admitting = await psycopg.AsyncConnection.connect(database)
    async with admitting, open_pool(database, size=2) as pool:
        await admitting.execute("SELECT 1 FROM thread WHERE thread_id = %s FOR UPDATE", (thread_id,))

        async def take() -> str | None:
            async with transaction(pool) as conn:
                return await expiry.lock_expired(conn, UUID(thread_id))

        taking = asyncio.create_task(take())

        async def waits() -> bool:
            query = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE%'"
            async with await psycopg.AsyncConnection.connect(database) as conn:
                return await (await conn.execute(query)).fetchone() is not None

        await eventually(waits)
        await admitting.execute(
            "INSERT INTO run (run_id, thread_id, assistant_id, graph_id) "
            "VALUES (gen_random_uuid(), %s, gen_random_uuid(), 'agent')",
            (thread_id,),
        )
        await admitting.commit()
        assert await taking is None


async def test_a_touched_thread_is_not_taken_although_it_was_found(client: LangGraphClient, database: str) -> None:
    thread_id = (await client.threads.create(ttl=SOON))["thread_id"]
    await expires(database, thread_id)
    async with open_pool(database, size=2) as pool:
        async with transaction(pool) as conn:
            assert UUID(thread_id) in await expiry.expired(conn, limit=10_000)
            assert await expiry.lock_expired(conn, UUID(thread_id)) == "delete"
        await client.threads.update(thread_id, metadata={}, ttl=60)
        async with transaction(pool) as conn:
            assert await expiry.lock_expired(conn, UUID(thread_id)) is None


async def test_the_configured_lifetime_is_that_of_new_threads_only(
    lasting: Stack, client: LangGraphClient, thread_id: str, database: str
) -> None:
    older = (await client.threads.create())["thread_id"]
    async with get_client(url=lasting.url) as own:
        assert await lifetime_of(own, older) is None
        created = (await own.threads.create())["thread_id"]
        await own.runs.wait(thread_id, "agent", input={"log": ["in"]}, if_not_exists="create")
        kept = await own.runs.create(None, "agent", input={"log": ["in"]}, on_completion="keep")
        for each in (created, thread_id, kept["thread_id"]):
            found = await lifetime_of(own, each)
            assert (found["strategy"], found["ttl_minutes"]) == ("keep_latest", 60)
        mine = (await own.threads.create(ttl=5))["thread_id"]
        assert (await lifetime_of(own, mine))["ttl_minutes"] == 5
        stateless = await own.runs.create(None, "agent", input={"log": ["in"]}, after_seconds=3600)
        assert await lifetime_of(own, stateless["thread_id"]) is None


async def test_lifetimes_are_looked_after_as_often_as_is_set(lasting: Stack, temporal: Client, database: str) -> None:
    async with get_client(url=lasting.url) as own:
        thread_id = (await own.threads.create(ttl=SOON))["thread_id"]

        async def gone() -> bool:
            return await is_gone(own, thread_id)

        await eventually(gone)
    assert await described(temporal, expire_workflow_id("lifetimes"))


def test_the_configuration_of_lifetimes_is_read_from_the_environment_first() -> None:
    config = ThreadTtl(strategy="keep_latest", default_ttl=1, sweep_limit=7)
    assert expiry_of(config) == Expiry(Lifetime(1, "keep_latest"), limit=7)
    assert expiry_of(config, text='{"default_ttl": 2, "sweep_interval_minutes": 0.5}') == Expiry(Lifetime(2), 0.5)
    assert expiry_of(None) == expiry_of(ThreadTtl()) == Expiry(None, 5, 1000)


@pytest.mark.parametrize(
    ("ttl", "what"),
    [
        (5, "must be an object"),
        ({"strategy": "forget"}, "strategy"),
        ({"default_ttl": 0}, "default_ttl"),
        ({"default_ttl": True}, "default_ttl"),
        ({"default_ttl": 1e12}, "default_ttl"),
        ({"sweep_interval_minutes": "5"}, "sweep_interval_minutes"),
        ({"sweep_limit": -1}, "sweep_limit"),
    ],
)
def test_lifetimes_that_cannot_be_are_named_at_the_start(ttl: Any, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        parse({"checkpointer": {"ttl": ttl}})
    with pytest.raises(ConfigError, match=what):
        expiry_of(None, text=json.dumps(ttl))
    with pytest.raises(ConfigError, match="not JSON"):
        expiry_of(None, text="{")
