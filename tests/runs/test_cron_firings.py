"""What becomes of a cron when it is due: a run like any other."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError
from temporalio.client import Client, ScheduleBackfill, ScheduleOverlapPolicy

from durathread.temporal.connection import RUN_STATUS, THREAD_ID
from tests.eventually import eventually
from tests.runs.crons import create, exists, fire, firings, workflows
from tests.runs.support import entered, log_of, start, statuses
from tests.stack import running
from tests.workflows.support import attribute, described, details

AGENT = "fe096781-5601-53d2-b2f6-0d3403f7e9ca"


@pytest.fixture
async def database_connection(database: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as conn:
        yield conn


async def test_a_cron_that_is_due_each_second_runs_again_and_again(client: LangGraphClient) -> None:
    cron = await create(client, schedule="* * * * * *", on_run_completed="keep")

    async def threads() -> list[Any]:
        found = await client.threads.search(metadata={"cron_id": cron["cron_id"]}, limit=100)
        return found if len([thread for thread in found if thread["status"] == "idle"]) >= 3 else []

    found = await eventually(threads, timeout=30)
    await client.crons.delete(cron["cron_id"])
    done = next(thread for thread in found if thread["status"] == "idle")
    assert done["values"]["log"] == ["cron", "a", "b", "c"]
    assert done["metadata"]["assistant_id"] == AGENT


async def test_a_cron_on_a_thread_runs_there(client: LangGraphClient, temporal: Client, thread_id: str) -> None:
    await client.threads.create(thread_id=thread_id, metadata={"of": "thread"})
    cron = await create(
        client,
        thread_id=thread_id,
        metadata={"of": "cron", "team": "a"},
        config={"tags": ["x"], "configurable": {"tone": "dry"}},
        interrupt_before=["c"],
        stream_mode=["updates"],
        durability="sync",
    )
    fired = await fire(temporal, cron["cron_id"])
    assert (fired.status, fired.thread_id, fired.graph_id) == ("admitted", thread_id, "agent")
    await client.runs.join(thread_id, fired.run_id)
    [run] = await client.runs.list(thread_id)
    kwargs: Any = run.get("kwargs")
    assert run["run_id"] == fired.run_id
    assert run["metadata"] == {
        "created_by": "system",
        "of": "cron",
        "team": "a",
        "cron_id": cron["cron_id"],
        "assistant_id": AGENT,
    }
    configurable = kwargs["config"]["configurable"]
    assert (configurable["cron_id"], configurable["tone"]) == (cron["cron_id"], "dry")
    assert kwargs["context"] == {"tone": "dry"}
    assert kwargs["config"]["tags"] == ["x"]
    assert (kwargs["interrupt_before"], kwargs["stream_mode"], kwargs["durability"]) == (["c"], ["updates"], "sync")
    assert await log_of(client, thread_id) == ["cron", "a", "b"]


async def test_a_context_goes_with_the_runs(client: LangGraphClient, temporal: Client) -> None:
    cron = await client.crons.create(
        "configured", schedule="0 0 1 1 *", context={"tone": "wet"}, input={"log": []}, on_run_completed="keep"
    )
    fired = await fire(temporal, str(cron.get("cron_id")))
    await client.runs.join(fired.thread_id, fired.run_id)
    assert await log_of(client, fired.thread_id) == ["wet"]


async def test_firings_queue_on_a_busy_thread(
    client: LangGraphClient, temporal: Client, thread_id: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    await start(client, thread_id, "first", do={"b": {"until": str(gate)}})
    cron = await create(client, thread_id=thread_id)
    last = [await fire(temporal, cron["cron_id"], times) for times in (1, 2)][-1]
    assert await statuses(client, thread_id) == ["running", "pending", "pending"]
    gate.touch()
    await client.runs.join(thread_id, last.run_id)
    assert await log_of(client, thread_id) == ["first", "a", "b", "c", *["cron", "a", "b", "c"] * 2]


async def test_a_firing_that_is_refused_does_not_end_the_cron(
    client: LangGraphClient, temporal: Client, thread_id: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    run = await start(client, thread_id, "first", do={"b": {"until": str(gate)}})
    cron = await create(client, thread_id=thread_id, multitask_strategy="reject")
    refused = await fire(temporal, cron["cron_id"])
    assert (refused.status, refused.run_id) == ("refused", "")
    assert "already running" in refused.reason
    gate.touch()
    await client.runs.join(thread_id, run["run_id"])
    assert (await fire(temporal, cron["cron_id"], 2)).status == "admitted"
    assert len(await client.runs.list(thread_id)) == 2


async def test_a_firing_may_interrupt_what_works(
    client: LangGraphClient, temporal: Client, thread_id: str, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    await start(client, thread_id, "first", do={"b": {"trace": str(trace), "sleep": 60}})
    await entered(trace)
    cron = await create(client, thread_id=thread_id, multitask_strategy="interrupt")
    fired = await fire(temporal, cron["cron_id"])
    await client.runs.join(thread_id, fired.run_id)
    assert await statuses(client, thread_id) == ["interrupted", "success"]
    assert await log_of(client, thread_id) == ["first", "a", "cron", "a", "b", "c"]


async def test_the_thread_of_a_firing_goes_with_its_run(
    client: LangGraphClient, temporal: Client, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    cron = await create(client, do={"b": {"until": str(gate)}}, metadata={"team": "a"})
    fired = await fire(temporal, cron["cron_id"])
    thread = await client.threads.get(fired.thread_id)
    assert (thread["status"], (thread["metadata"] or {})["cron_id"]) == ("busy", cron["cron_id"])
    gate.touch()
    result: Any = await client.runs.join(fired.thread_id, fired.run_id)
    assert result["log"] == ["cron", "a", "b", "c"]
    with pytest.raises(NotFoundError):
        await client.threads.get(fired.thread_id)


async def test_a_time_that_comes_twice_fires_once(client: LangGraphClient, temporal: Client, thread_id: str) -> None:
    await client.threads.create(thread_id=thread_id)
    cron = await create(client, thread_id=thread_id, schedule="30 * * * *")
    noon = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=5)
    backfill = ScheduleBackfill(noon, noon + timedelta(hours=2), overlap=ScheduleOverlapPolicy.ALLOW_ALL)
    handle = temporal.get_schedule_handle(f"cron/{cron['cron_id']}")
    await handle.backfill(backfill)
    first = await firings(temporal, cron["cron_id"], 2)
    await handle.backfill(backfill)
    again = await firings(temporal, cron["cron_id"], 4)
    assert {fired.run_id for fired in again} == {fired.run_id for fired in first}
    assert [fired.status for fired in again] == ["admitted"] * 4
    for fired in first:
        await client.runs.join(thread_id, fired.run_id)
    assert sorted(run["run_id"] for run in await client.runs.list(thread_id)) == sorted(fired.run_id for fired in first)


async def test_a_cron_that_rests_does_not_fire_by_hand_either(client: LangGraphClient, temporal: Client) -> None:
    disabled = await create(client, enabled=False)
    ended = await create(client, end_time=datetime(2020, 1, 1, tzinfo=UTC))
    for cron, reason in ((disabled, "disabled"), (ended, "ended")):
        fired = await fire(temporal, cron["cron_id"])
        assert (fired.status, fired.run_id) == ("skipped", "")
        assert reason in fired.reason


async def test_no_cron_fires_where_crons_are_switched_off(
    environment: dict[str, str], temporal: Client, tmp_path: Path
) -> None:
    off = {"FF_CRONS_ENABLED": "false"}
    own = {**environment, "DURATHREAD_TASK_QUEUE": "without-crons"}
    async with running(own, tmp_path) as stack, get_client(url=stack.url) as client:
        cron = await create(client)
        assert (await fire(temporal, cron["cron_id"])).status == "admitted"
        await stack.stop("worker")
        stack.environment = {**own, **off}
        await stack.start("worker")
        fired = await fire(temporal, cron["cron_id"], times=2)
        assert (fired.status, fired.run_id) == ("skipped", "")
        assert "disabled" in fired.reason
        await client.crons.delete(cron["cron_id"])


async def test_a_schedule_whose_cron_has_gone_deletes_itself(
    client: LangGraphClient, temporal: Client, database_connection: psycopg.AsyncConnection[Any]
) -> None:
    cron = await create(client)
    await database_connection.execute("DELETE FROM cron WHERE cron_id = %s", (cron["cron_id"],))
    handle = temporal.get_schedule_handle(f"cron/{cron['cron_id']}")
    await handle.trigger(overlap=ScheduleOverlapPolicy.ALLOW_ALL)

    async def gone() -> bool:
        return not await exists(temporal, cron["cron_id"])

    await eventually(gone)


async def test_a_cron_in_a_time_zone_is_told_more_times_before_it_has_none(
    client: LangGraphClient, temporal: Client, database_connection: psycopg.AsyncConnection[Any]
) -> None:
    cron = await create(client, schedule="*/7 * * * *", timezone="Europe/Berlin")
    query = "SELECT refill_at FROM cron WHERE cron_id = %s"

    async def refill_at() -> datetime:
        row = await (await database_connection.execute(query, (cron["cron_id"],))).fetchone()
        assert row
        return row[0]

    ahead = await refill_at()
    # Half of a hundred times, seven minutes apart, with a remainder at each full hour.
    assert timedelta(hours=5) < ahead - datetime.now(UTC) < timedelta(hours=7)
    past = datetime.now(UTC) - timedelta(seconds=1)
    await database_connection.execute("UPDATE cron SET refill_at = %s WHERE cron_id = %s", (past, cron["cron_id"]))
    await fire(temporal, cron["cron_id"])
    assert await refill_at() >= ahead


async def test_people_see_in_temporal_what_came_of_a_firing(
    client: LangGraphClient, temporal: Client, thread_id: str
) -> None:
    await client.threads.create(thread_id=thread_id)
    cron = await create(client, thread_id=thread_id)
    fired = await fire(temporal, cron["cron_id"])
    [started] = await workflows(temporal, cron["cron_id"], 1)
    found = await described(temporal, started.workflow_id)
    assert found
    assert started.workflow_id.startswith(f"cron/{cron['cron_id']}-")
    assert await found.static_summary() == f"0 0 1 1 * UTC · thread {thread_id}"
    # Its run has the rest; RunStatus is there where no run came of it.
    assert [attribute(found, key) for key in (THREAD_ID, RUN_STATUS)] == [thread_id, None]
    assert fired.run_id in await details(temporal, started.workflow_id)
