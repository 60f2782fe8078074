"""The activity that repairs what crashes have left between Postgres and Temporal."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from uuid import UUID

import structlog
from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.exceptions import TemporalError
from temporalio.service import RPCError, RPCStatusCode

from durathread.activities.deliver import Deliveries
from durathread.activities.resources import Resources
from durathread.activities.settle import Settlements
from durathread.db import runs
from durathread.db.pool import connection, transaction
from durathread.errors import Unavailable
from durathread.records import Run
from durathread.runs.request import signal_of
from durathread.runs.signals import send
from durathread.temporal.connection import RPC_TIMEOUT, thread_workflow_id
from durathread.workflows.messages import HELD, SWEEP_RUNS, Settlement, Sweep

# How many threads are asked at once. One whose workers are gone takes as long to ask as `RPC_TIMEOUT` says.
AT_ONCE = 20

log = structlog.get_logger()


class Sweeps:
    """Finds what nobody works on."""

    def __init__(self, resources: Resources) -> None:
        """Take what the worker will have opened."""
        self._resources = resources
        self._deliveries = Deliveries(resources)
        self._settlements = Settlements(resources)

    @activity.defn(name=SWEEP_RUNS)
    async def sweep(self, given: Sweep) -> int:
        """Signal again the runs in flight that their threads have not heard of; return how many.

        And settle what ended runs have left on threads that still are busy, and start the webhooks that nobody has started.
        """
        await self._deliveries.resume(age=given.age, limit=given.limit)
        await self._settle(given)
        count, after, turn = 0, 0, asyncio.Semaphore(AT_ONCE)
        while True:
            async with connection(self._resources.pool) as conn:
                found = await runs.stranded(conn, age=given.age, limit=given.limit, after=after)
            count += sum(
                await asyncio.gather(
                    *(
                        self._resend(turn, thread_id, list(stranded), given)
                        for thread_id, stranded in groupby(sorted(found, key=_place), key=lambda run: run.thread_id)
                    )
                )
            )
            if len(found) < given.limit:
                return count
            after = found[-1].seq

    async def _settle(self, given: Sweep) -> None:
        async with connection(self._resources.pool) as conn:
            found = await runs.unsettled(conn, age=given.age, limit=given.limit)
        for thread_id, run_id in found:
            activity.heartbeat()
            log.warning("A thread is still busy with a run that has ended", thread_id=str(thread_id))
            if run_id is not None:
                await self._settlements.settle(Settlement(str(run_id), "interrupted"))
                continue
            async with transaction(self._resources.pool) as conn:
                await runs.rest_thread(conn, thread_id)

    async def _resend(self, turn: asyncio.Semaphore, thread_id: UUID, stranded: Sequence[Run], given: Sweep) -> int:
        """Send those runs of a thread that its workflow does not hold, in order of admission: it may be a new one."""
        client, count = activity.client(), 0
        async with turn:
            activity.heartbeat()
            try:
                held = await _held(client, thread_id)
                if known := [run.run_id for run in stranded if str(run.run_id) in held]:
                    async with connection(self._resources.pool) as conn:
                        await runs.note_asked(conn, known)
                now = datetime.now(UTC)
                for run in stranded:
                    if str(run.run_id) not in held and run.created_at <= now:
                        request = signal_of(run, (), limits=given.limits, nodes=[])
                        await send(client, request, task_queue=activity.info().task_queue)
                        count += 1
            except Unavailable as error:
                # The next sweep asks it again: meanwhile it holds up no other thread.
                log.warning("A thread cannot be swept", thread_id=str(thread_id), error=str(error))
        return count


def _place(run: Run) -> tuple[UUID, int]:
    return run.thread_id, run.seq


async def _held(client: Client, thread_id: UUID) -> set[str]:
    """Name the runs that the workflow of a thread works on or has queued. Asking leaves no trace in its history.

    Raises:
        Unavailable: it does not answer.
    """
    handle = client.get_workflow_handle(thread_workflow_id(thread_id))
    try:
        if (await handle.describe(rpc_timeout=RPC_TIMEOUT)).status is not WorkflowExecutionStatus.RUNNING:
            return set()
        return set(await handle.query(HELD, result_type=list[str], rpc_timeout=RPC_TIMEOUT))
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return set()
        raise Unavailable(f"The workflow of thread {thread_id} does not answer.") from error
    except TemporalError as error:
        raise Unavailable(f"The workflow of thread {thread_id} does not answer.") from error
