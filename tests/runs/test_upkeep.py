"""Sweeps begin when the database says that there is something to do, and not before; whoever may die, somebody looks."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from temporalio.client import Client, Schedule, ScheduleActionStartWorkflow, ScheduleSpec, WorkflowExecutionStatus
from temporalio.service import RPCError

from durathread.config.lifetimes import Expiry
from durathread.db import due, runs
from durathread.db.migrate import upgrade
from durathread.db.pool import Pool, connection, open_pool
from durathread.deployment.upkeep import Upkeep
from durathread.embedded.engines import Engines
from durathread.graphs.registry import system_assistant_id
from durathread.temporal.connection import expire_workflow_id, sweep_workflow_id
from durathread.workflows.messages import Limits
from tests.conftest import environment_of, own_database
from tests.db.support import admit, assistant, new_run
from tests.eventually import eventually
from tests.stack import Stack, free_port, running
from tests.workflows.support import described

OLD = """
UPDATE run SET created_at = now() - interval '1 minute', updated_at = now() - interval '1 minute' WHERE run_id = %s
"""
AGED = """
UPDATE run SET created_at = now() - make_interval(secs => %(touched)s), updated_at = now() - make_interval(secs => %(touched)s),
    asked_at = now() - make_interval(secs => %(asked)s)
WHERE run_id = %(run)s
"""


@pytest.fixture
async def quiet(engine_set: Engines) -> AsyncIterator[Pool]:
    """A database that no server works on."""
    async with own_database(engine_set) as url:
        upgrade(url)
        async with open_pool(url, size=4) as pool:
            yield pool


def upkeep_of(pool: Pool, client: Client, *, every: float = 0, minutes: float = 0) -> tuple[Upkeep, str]:
    """Build what looks after a database, and name the task queue that nobody works for."""
    queue = f"upkeep-{uuid4()}"
    expiry = Expiry(interval_minutes=minutes)
    return Upkeep(pool, client, task_queue=queue, limits=Limits(), expiry=expiry, every=every), queue


async def lost_run(pool: Pool) -> UUID:
    """Admit a run as an API does that is killed before it sends it."""
    who = assistant(assistant_id=system_assistant_id("agent"))
    kwargs = {"input": {"log": ["lost"], "do": {}}, "stream_mode": ["values"]}
    admitted = await admit(pool, new_run(uuid4(), "enqueue", assistant=who, kwargs=kwargs))
    return admitted.run.run_id


async def execute(pool: Pool, query: Any, args: Any = ()) -> None:
    async with connection(pool) as conn:
        await conn.execute(query, args)


async def test_a_deployment_that_idles_starts_nothing_however_often_it_looks(quiet: Pool, temporal: Client) -> None:
    upkeep, queue = upkeep_of(quiet, temporal)
    run_id = await lost_run(quiet)
    await execute(quiet, "UPDATE run SET status = 'success', ended_at = now() WHERE run_id = %s", (run_id,))
    await execute(quiet, "UPDATE thread SET status = 'idle', ttl_strategy = 'delete', ttl_minutes = 1")
    assert [await upkeep.look() for _ in range(20)] == [[]] * 20
    assert await described(temporal, sweep_workflow_id(queue)) is None
    assert await described(temporal, expire_workflow_id(queue)) is None


async def test_a_run_that_was_only_just_admitted_is_left_to_whoever_sends_it(quiet: Pool, temporal: Client) -> None:
    upkeep, queue = upkeep_of(quiet, temporal)
    run_id = await lost_run(quiet)
    assert await upkeep.look() == []
    await execute(quiet, OLD, (run_id,))
    assert await upkeep.look() == [sweep_workflow_id(queue)]


async def test_one_process_begins_a_sweep_and_if_it_dies_another_does(quiet: Pool, temporal: Client) -> None:
    await execute(quiet, OLD, (await lost_run(quiet),))

    async def take_on(every: float) -> due.Due | None:
        async with connection(quiet) as conn:
            return await due.sweep(conn, age=15, every=every)

    taken = await asyncio.gather(*(take_on(60) for _ in range(4)))
    assert sorted(map(str, taken)) == ["Due(crons=False)", "None", "None", "None"]
    # The one that was told has died before it told Temporal.
    assert await take_on(60) is None
    await execute(quiet, "UPDATE deployment SET swept_at = swept_at - interval '1 minute'")
    upkeep, queue = upkeep_of(quiet, temporal, every=60)
    assert await upkeep.look() == [sweep_workflow_id(queue)]


async def test_what_temporal_does_not_take_is_started_when_it_is_back(quiet: Pool, temporal: Client) -> None:
    away = await Client.connect(f"127.0.0.1:{free_port()}", lazy=True)
    await execute(quiet, OLD, (await lost_run(quiet),))
    assert await upkeep_of(quiet, away)[0].look() == []
    upkeep, queue = upkeep_of(quiet, temporal)
    assert await upkeep.look() == [sweep_workflow_id(queue)]
    # It has not come to an end: nobody works for that queue. To start it again changes nothing.
    assert await upkeep.look() == [sweep_workflow_id(queue)]


async def test_a_thread_that_is_busy_with_nothing_is_swept(quiet: Pool, temporal: Client) -> None:
    upkeep, queue = upkeep_of(quiet, temporal)
    run_id = await lost_run(quiet)
    await execute(quiet, "DELETE FROM run WHERE run_id = %s", (run_id,))
    assert await upkeep.look() == []
    await execute(quiet, "UPDATE thread SET updated_at = now() - interval '1 minute'")
    assert await upkeep.look() == [sweep_workflow_id(queue)]


async def test_a_webhook_that_nobody_has_started_is_swept(quiet: Pool, temporal: Client) -> None:
    upkeep, queue = upkeep_of(quiet, temporal)
    run_id = await lost_run(quiet)
    await execute(quiet, """UPDATE run SET kwargs = kwargs || '{"webhook": "http://127.0.0.1:1/"}'""")
    await execute(quiet, "UPDATE run SET status = 'success' WHERE run_id = %s", (run_id,))
    await execute(quiet, "UPDATE thread SET status = 'idle'")
    assert await upkeep.look() == []
    await execute(quiet, "UPDATE outbox SET created_at = now() - interval '1 minute'")
    assert await upkeep.look() == [sweep_workflow_id(queue)]


async def test_crons_are_compared_with_their_schedules_now_and_then(quiet: Pool) -> None:
    async def take_on() -> due.Due | None:
        async with connection(quiet) as conn:
            return await due.sweep(conn, age=15, every=0)

    assert await take_on() is None
    who = system_assistant_id("agent")
    await execute(quiet, "INSERT INTO assistant (assistant_id, graph_id, name) VALUES (%s, 'agent', 'a')", (who,))
    await execute(
        quiet,
        "INSERT INTO cron (cron_id, assistant_id, schedule, enabled, payload, metadata, scheduled) "
        "VALUES (%s, %s, '* * * * *', TRUE, '{}', '{}', TRUE)",
        (uuid4(), who),
    )
    assert await take_on() == due.Due(crons=True)
    assert await take_on() is None
    # One that Temporal was not told of is looked at as soon as whoever made it has had time to.
    await execute(quiet, "UPDATE cron SET scheduled = FALSE")
    assert await take_on() is None
    await execute(quiet, "UPDATE cron SET updated_at = updated_at - interval '1 minute'")
    assert await take_on() == due.Due(crons=True)


@pytest.mark.parametrize(
    ("touched", "asked", "stranded"),
    [
        (10, None, False),
        (16, None, True),
        (40, 20, True),
        (40, 10, False),
        (3600, 299, False),
        (3600, 301, True),
        # Touched since.
        (16, 20, True),
    ],
)
async def test_a_run_that_its_thread_holds_is_asked_for_less_and_less_often(
    quiet: Pool, touched: float, asked: float | None, stranded: bool
) -> None:
    run_id = await lost_run(quiet)
    await execute(quiet, AGED, {"run": run_id, "touched": touched, "asked": asked})
    async with connection(quiet) as conn:
        found = await runs.stranded(conn, age=15, limit=10)
        assert [run.run_id for run in found] == ([run_id] if stranded else [])
        assert (await due.sweep(conn, age=15, every=0) is not None) == stranded


async def test_threads_that_have_outlived_their_lifetime_are_taken_away_at_most_once_in_an_interval(
    quiet: Pool, temporal: Client
) -> None:
    await lost_run(quiet)
    await execute(quiet, "UPDATE run SET status = 'success'")
    past = "status = 'idle', ttl_strategy = 'delete', ttl_minutes = 1, updated_at = now() - interval '2 minutes'"
    await execute(quiet, f"UPDATE thread SET {past}")
    upkeep, queue = upkeep_of(quiet, temporal, minutes=5)
    # The interval begins when the database is made.
    assert await upkeep.look() == []
    await execute(quiet, "UPDATE deployment SET expired_at = now() - interval '6 minutes'")
    assert await upkeep.look() == [expire_workflow_id(queue)]
    assert await upkeep.look() == []


async def test_the_schedules_of_earlier_versions_are_deleted(quiet: Pool, temporal: Client) -> None:
    upkeep, queue = upkeep_of(quiet, temporal, every=60, minutes=1)
    names = (sweep_workflow_id(queue), expire_workflow_id(queue))
    for name in names:
        action = ScheduleActionStartWorkflow("Sweep", id=name, task_queue=queue)
        await temporal.create_schedule(name, Schedule(action=action, spec=ScheduleSpec()))

    async def gone() -> bool:
        for name in names:
            try:
                await temporal.get_schedule_handle(name).describe()
            except RPCError:
                continue
            return False
        return True

    looking = asyncio.create_task(upkeep.run())
    try:
        await eventually(gone)
    finally:
        looking.cancel()


@pytest.fixture
async def stack(engine_set: Engines, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A server that looks often."""
    async with own_database(engine_set) as url:
        upgrade(url)
        own = {
            **environment_of(engine_set, queue=f"upkeep-{uuid4()}"),
            "DATABASE_URL": url,
            "DURATHREAD_SWEEP_INTERVAL": "0.2",
        }
        async with running(own, tmp_path_factory.mktemp("upkeep")) as found:
            yield found


async def test_a_run_that_was_not_sent_begins_whoever_is_there_to_look(stack: Stack, temporal: Client) -> None:
    """The API was killed after the commit. Whoever is left, or comes back, finds the row."""
    sweep = sweep_workflow_id(stack.environment["DURATHREAD_TASK_QUEUE"])
    async with open_pool(stack.environment["DATABASE_URL"], size=2) as pool:

        async def lose() -> UUID:
            run_id = await lost_run(pool)
            await execute(pool, OLD, (run_id,))
            return run_id

        async def succeeds(run_id: UUID) -> None:
            async def done() -> bool:
                async with connection(pool) as conn:
                    found = await runs.get(conn, run_id)
                return bool(found and found.status == "success")

            await eventually(done)

        await stack.kill("api")
        await succeeds(await lose())
        await stack.start("api")
        await stack.ready()
        await stack.kill("worker")
        run_id = await lose()

        async def waits_for_a_worker() -> bool:
            found = await described(temporal, sweep)
            return bool(found and found.status is WorkflowExecutionStatus.RUNNING)

        await eventually(waits_for_a_worker)
        await stack.start("worker")
        await succeeds(run_id)
