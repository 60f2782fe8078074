"""Steps as the activities of a worker, on rows as other steps, workers and statements have left them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb
from temporalio.testing import ActivityEnvironment

from durathread.activities import step as steps
from durathread.activities.resources import Resources
from durathread.config.settings import Settings
from durathread.db import runs, threads
from durathread.db.pool import connection
from durathread.embedded.engines import Engines
from durathread.graphs.registry import Graphs
from durathread.records import token_of
from durathread.workflows.messages import StepInput, StepOutcome
from tests.eventually import eventually
from tests.runs.support import entered
from tests.stack import GRAPHS

THREAD = 'INSERT INTO thread (thread_id, status, "values", interrupts) VALUES (%s, %s, %s, %s)'
RUN = """
INSERT INTO run (run_id, thread_id, assistant_id, graph_id, status, attempt, step, deaths, kwargs, started_at)
VALUES (%(run)s, %(thread)s, gen_random_uuid(), %(graph)s, %(status)s, %(attempt)s, %(step)s, %(deaths)s, %(kwargs)s, now())
"""
CHECKPOINT = """
INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint, metadata)
VALUES (%s, '', '1f1ec5e4-2ffe-6106-bfff-a287627861b3', '{}', %s)
"""
# Backends that ask whether a run is still a worker's, and wait for a lock. Others write the step's first checkpoint.
ASKING = (
    "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT 1 FROM run WHERE run_id%' AND wait_event_type = 'Lock'"
)


@pytest.fixture
async def resources(engine_set: Engines, database: str) -> AsyncIterator[Resources]:
    """What a worker has open."""
    config = GRAPHS.parent / "langgraph.json"
    settings = Settings(database_url=database, redis_url=engine_set.redis_url, config=config, pool_size=4)
    async with Resources(settings, Graphs.load(config)).opened() as found:
        yield found


async def run_on(
    resources: Resources,
    *,
    graph: str = "agent",
    status: str = "pending",
    attempt: int = 0,
    step: int = -1,
    deaths: int = 0,
    given: Any = None,
) -> tuple[UUID, UUID]:
    """Insert a run and its thread, which shows `{"log": ["before"]}` and a question."""
    thread_id, run_id = uuid4(), uuid4()
    values, asked = Jsonb({"log": ["before"]}), Jsonb({"task": [{"id": "1", "value": "which?"}]})
    kwargs = Jsonb({"input": given or {"log": ["in"]}})
    async with connection(resources.pool) as conn:
        await conn.execute(THREAD, (thread_id, "busy" if status in ("pending", "running") else "idle", values, asked))
        row = {"run": run_id, "thread": thread_id, "graph": graph, "status": status}
        await conn.execute(RUN, {**row, "attempt": attempt, "step": step, "deaths": deaths, "kwargs": kwargs})
    return thread_id, run_id


async def step(resources: Resources, run_id: UUID, *, number: int = 0, call: int = 1) -> StepOutcome:
    """Make one attempt at a step."""
    return await ActivityEnvironment().run(steps.Steps(resources).step, StepInput(str(run_id), number, call))


@pytest.mark.parametrize("call", [3, 4, 7])
async def test_an_end_that_was_written_before_its_worker_stopped_is_told_by_later_calls(
    resources: Resources, call: int
) -> None:
    """The answer to the commit was lost, or the worker stopped between the end and its announcement."""
    _, run_id = await run_on(resources, status="success", attempt=token_of(3, 1))
    assert (await step(resources, run_id, call=call)).status == "success"


async def test_an_end_that_a_later_call_has_written_is_not_told_by_an_earlier_one(resources: Resources) -> None:
    _, run_id = await run_on(resources, status="success", attempt=token_of(3, 1))
    assert (await step(resources, run_id, call=2)).status == "superseded"


async def test_a_run_that_is_given_up_and_cannot_be_read_leaves_its_thread_what_it_showed(resources: Resources) -> None:
    """Its graph is gone, for instance."""
    thread_id, run_id = await run_on(
        resources, graph="gone", status="running", attempt=token_of(1, 1), step=0, deaths=3
    )
    async with connection(resources.pool) as conn:
        await conn.execute(CHECKPOINT, (str(thread_id), Jsonb({"run_id": str(run_id)})))
    assert (await step(resources, run_id, call=2)).status == "error"
    async with connection(resources.pool) as conn:
        thread = await threads.get(conn, thread_id)
    assert thread is not None
    assert (thread.status, thread.values) == ("error", {"log": ["before"]})
    assert thread.interrupts == {"task": [{"id": "1", "value": "which?"}]}


async def test_a_question_that_the_database_cancels_takes_no_run_from_its_worker(
    resources: Resources, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement timeout, for instance, says nothing of whose the run is."""
    monkeypatch.setattr(steps, "DOUBT", 0.05)
    gate, trace = tmp_path / "gate", tmp_path / "trace"
    _, run_id = await run_on(
        resources, graph="five", given={"log": ["in"], "do": {"s1": {"trace": str(trace), "until": str(gate)}}}
    )
    working = asyncio.create_task(step(resources, run_id))
    await entered(trace)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as other, other.transaction():
        await other.execute("LOCK TABLE run IN ACCESS EXCLUSIVE MODE")

        async def cancelled() -> bool:
            # A transaction sees the same activity again and again, unless it asks anew.
            await other.execute("SELECT pg_stat_clear_snapshot()")
            found = await (await other.execute(ASKING)).fetchall()
            return any([(await (await other.execute("SELECT pg_cancel_backend(%s)", pid)).fetchone()) for pid in found])

        for _ in range(2):
            await eventually(cancelled)
    assert not working.done()
    async with connection(resources.pool) as conn:
        assert await runs.is_owned(conn, run_id, token=token_of(1, 1))
    gate.touch()
    assert (await working).status == "continue"
