"""Several deployments on one Temporal server: each keeps to what is its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from temporalio.client import Client, Interceptor, OutboundInterceptor, UpdateScheduleInput
from temporalio.worker import Worker

from durathread.config.settings import Settings
from durathread.db import runs
from durathread.db.deployment import Deployment
from durathread.db.migrate import upgrade
from durathread.db.pool import connection, open_pool
from durathread.deployment.belonging import Belonging
from durathread.deployment.task_queue import claim, take_over
from durathread.embedded.engines import Engines
from durathread.errors import Unprepared
from durathread.plugin import DurathreadPlugin
from durathread.records import Run
from durathread.startup.preflight import identity, prepared, settled
from durathread.temporal.connection import owner_schedule_id
from durathread.workflows.messages import RunRequest
from tests.conftest import own_database
from tests.eventually import eventually
from tests.runs.support import entered, lines
from tests.stack import GRAPHS


@pytest.fixture
async def both(engine_set: Engines) -> AsyncIterator[list[Settings]]:
    """The settings of two deployments that share Temporal and Valkey."""
    found = list[Settings]()
    async with AsyncExitStack() as stack:
        for _ in range(2):
            url = await stack.enter_async_context(own_database(engine_set))
            upgrade(url)
            found.append(Settings(database_url=url, redis_url=engine_set.redis_url, config=GRAPHS, shutdown_grace=0))
        yield found


@pytest.fixture
def queue() -> str:
    """A task queue that nobody has used."""
    return f"shared-{uuid4()}"


@pytest.fixture
async def bare(engine_set: Engines) -> Client:
    return await Client.connect(engine_set.temporal_address)


async def client_of(engine_set: Engines, settings: Settings) -> Client:
    return await Client.connect(engine_set.temporal_address, plugins=[DurathreadPlugin(settings)])


async def test_each_database_has_a_task_queue_of_its_own(both: list[Settings]) -> None:
    queues = [settled(settings, await identity(settings)).task_queue for settings in both]
    assert len(set(queues)) == 2
    assert all(queue.startswith("durathread-") for queue in queues)
    assert queues == [settled(settings, await identity(settings)).task_queue for settings in both]


async def test_a_queue_that_is_given_stays_as_it_is(both: list[Settings]) -> None:
    given = both[0].model_copy(update={"task_queue": "mine"})
    assert settled(given, await identity(given)).task_queue == "mine"


async def test_a_database_that_has_served_keeps_the_queue_that_its_workflows_are_on(engine_set: Engines) -> None:
    async with own_database(engine_set) as url:
        # The last that knew of no deployments.
        upgrade(url, to="0007")
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("INSERT INTO thread (thread_id) VALUES (gen_random_uuid())")
        upgrade(url)
        assert (await identity(Settings(database_url=url))).task_queue == "durathread"


async def test_a_worker_that_finds_a_queue_of_another_database_refuses_to_start(
    engine_set: Engines, both: list[Settings], queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, owner = await client_of(engine_set, both[1]), await identity(both[0])
    await claim(client, owner, task_queue=queue)
    monkeypatch.setenv("TEMPORAL_ADDRESS", engine_set.temporal_address)
    for refused in (
        Worker(client, task_queue=queue).run(),
        prepared(both[1].model_copy(update={"task_queue": queue})),
    ):
        with pytest.raises(Unprepared, match=rf"database \(deployment {owner.deployment_id}.*migrate --claim"):
            await asyncio.wait_for(refused, 60)


async def test_of_two_that_claim_a_queue_at_once_one_gets_it(bare: Client, queue: str) -> None:
    found = [Deployment(uuid4(), queue, f"1/{n}") for n in range(5)]
    claims = await asyncio.gather(*(claim(bare, each, task_queue=queue) for each in found), return_exceptions=True)
    assert claims.count(None) == 1
    assert sum(isinstance(each, Unprepared) for each in claims) == 4
    await claim(bare, found[claims.index(None)], task_queue=queue)


async def test_a_queue_is_taken_over_from_a_database_that_is_gone(bare: Client, queue: str) -> None:
    lost, heir = Deployment(uuid4(), queue, "1/1"), Deployment(uuid4(), queue, "2/1")
    await claim(bare, lost, task_queue=queue)
    await take_over(bare, heir, task_queue=queue)
    await claim(bare, heir, task_queue=queue)
    with pytest.raises(Unprepared):
        await claim(bare, lost, task_queue=queue)


class Dropping(Interceptor, OutboundInterceptor):
    """Drops the first change of a schedule, as Temporal does with one that crosses another, without a word."""

    def __init__(self) -> None:
        self.dropped = 0

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        self.next = next
        return self

    async def update_schedule(self, input: UpdateScheduleInput) -> None:
        if self.dropped:
            await super().update_schedule(input)
        self.dropped += 1


async def test_a_queue_that_was_taken_over_is_found_so_at_once(engine_set: Engines, queue: str) -> None:
    changing = Dropping()
    client = await Client.connect(engine_set.temporal_address, interceptors=[changing])
    await claim(client, Deployment(uuid4(), queue, "1/1"), task_queue=queue)
    for number in range(10):
        heir = Deployment(uuid4(), queue, f"2/{number}")
        await take_over(client, heir, task_queue=queue)
        await claim(client, heir, task_queue=queue)
    assert changing.dropped > 1


async def test_a_copy_of_a_database_is_told_how_to_proceed(bare: Client, queue: str) -> None:
    origin = Deployment(uuid4(), queue, "1/1")
    copy = Deployment(origin.deployment_id, queue, "2/1")
    await claim(bare, origin, task_queue=queue)
    with pytest.raises(
        Unprepared, match=r"takes the place of the other: durathread migrate --claim.*TEMPORAL_NAMESPACE"
    ):
        await claim(bare, copy, task_queue=queue)
    # Postgres may not tell where it is.
    await claim(bare, Deployment(origin.deployment_id, queue), task_queue=queue)
    await take_over(bare, copy, task_queue=queue)
    await claim(bare, copy, task_queue=queue)


async def test_who_owns_a_queue_is_read_in_temporal_and_nothing_is_started_by_it(bare: Client, queue: str) -> None:
    owner = Deployment(uuid4(), queue, "1/1")
    await claim(bare, owner, task_queue=queue)
    found = (await bare.get_schedule_handle(owner_schedule_id(queue)).describe()).schedule
    assert found.state.note == f"deployment {owner.deployment_id}, database 1/1"
    assert found.state.paused
    assert not found.spec.intervals


async def sent(engine_set: Engines, deployment: Deployment, run: tuple[str, str], queue: str, do: Any) -> Client:
    """Send a run as a deployment that stops right after; return the client that did."""
    thread_id, run_id = run
    payload = {"input": {"log": ["in"], "do": do}, "if_not_exists": "create"}
    request = RunRequest(run_id=run_id, thread_id=thread_id, assistant_id="agent", payload=payload)
    naming = Belonging(lambda: deployment.deployment_id)
    starter = await Client.connect(engine_set.temporal_address, interceptors=[naming])
    await starter.start_workflow(
        "Thread", id=f"thread/{thread_id}", task_queue=queue, start_signal="new_run", start_signal_args=[request]
    )
    return starter


async def stored(settings: Settings, run_id: str) -> Run | None:
    """Read a run from a deployment's database."""
    async with open_pool(settings.database_url, size=2) as pool, connection(pool) as conn:
        return await runs.get(conn, UUID(run_id))


async def succeeded(settings: Settings, run_id: str) -> None:
    """Wait for a run's end."""

    async def ended() -> Run | None:
        run = await stored(settings, run_id)
        return run if run and not run.in_flight else None

    run: Any = await eventually(ended, timeout=60)
    assert run.status == "success"


async def test_a_run_of_another_deployment_goes_back_until_its_own_worker_gets_it(
    engine_set: Engines, both: list[Settings], queue: str
) -> None:
    """The queue is taken over while the first deployment still has runs in Temporal."""
    first, second = [await client_of(engine_set, settings) for settings in both]
    thread_id, run_id = str(uuid4()), str(uuid4())
    mine = await identity(both[0])
    starter = await sent(engine_set, mine, (thread_id, run_id), queue, {})
    await claim(starter, await identity(both[1]), task_queue=queue)
    async with Worker(second, task_queue=queue):
        await eventually(lambda: handed_back(starter, f"thread/{thread_id}"), timeout=60)
    assert await stored(both[1], run_id) is None
    await take_over(starter, mine, task_queue=queue)
    async with Worker(first, task_queue=queue):
        await succeeded(both[0], run_id)


async def test_a_step_of_another_deployment_goes_back_and_counts_for_nothing(
    engine_set: Engines, both: list[Settings], queue: str, tmp_path: Path
) -> None:
    """The queue is taken over while a node of the first deployment is at work."""
    first, second = [await client_of(engine_set, settings) for settings in both]
    thread_id, run_id = str(uuid4()), str(uuid4())
    trace, gate = tmp_path / "trace", tmp_path / "gate"
    mine, theirs = await identity(both[0]), await identity(both[1])
    node = {"trace": str(trace), "until": str(gate)}
    starter = await sent(engine_set, mine, (thread_id, run_id), queue, {"b": node})
    async with Worker(first, task_queue=queue):
        await entered(trace)
    before = await stored(both[0], run_id)
    assert before
    await take_over(starter, theirs, task_queue=queue)
    async with Worker(second, task_queue=queue):
        # It is offered again and again.
        await eventually(lambda: refused(starter, run_id, times=2), timeout=60)
    assert await stored(both[0], run_id) == before
    assert (before.status, before.deaths) == ("running", 0)
    assert await stored(both[1], run_id) is None
    assert len(lines(trace)) == 1
    gate.touch()
    await take_over(starter, mine, task_queue=queue)
    async with Worker(first, task_queue=queue):
        await succeeded(both[0], run_id)
    assert len(lines(trace)) == 2


async def refused(client: Client, run_id: str, *, times: int) -> bool:
    """Say whether steps of a run were handed back so often as another deployment's."""
    events = client.get_workflow_handle(f"run/{run_id}").fetch_history_events()
    failures = [event.activity_task_failed_event_attributes.failure async for event in events]
    return sum("belongs to deployment" in failure.message for failure in failures) >= times


async def handed_back(client: Client, workflow_id: str) -> bool:
    """Say whether an activity of a workflow waits to be tried again."""
    described = await client.get_workflow_handle(workflow_id).describe()
    return any(
        "belongs to deployment" in pending.last_failure.message
        for pending in described.raw_description.pending_activities
    )
