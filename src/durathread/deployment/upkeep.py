"""Has threads repaired, and taken away, when the database says that there is something to do. Every process looks."""

import asyncio
from datetime import timedelta

import structlog
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from durathread.config.lifetimes import Expiry
from durathread.db import due, idempotency
from durathread.db.pool import TROUBLES, Pool, connection, is_clash, is_outage
from durathread.temporal.connection import expire_workflow_id, sweep_workflow_id
from durathread.workflows.messages import EXPIRE, SWEEP, Expiration, Limits, Sweep

log = structlog.get_logger()

# How long Temporal may take for an answer.
SCHEDULE_TIMEOUT = timedelta(seconds=5)


class Upkeep:
    """Starts the workflows that sweep and expire. What it knows is in the database: a process that dies here loses nothing."""

    def __init__(
        self, pool: Pool, client: Client, *, task_queue: str, limits: Limits, expiry: Expiry, every: float
    ) -> None:
        """Take what is looked at, and who is told.

        Args:
            pool: of the database.
            client: that starts the workflows.
            task_queue: of the workers that do the work.
            limits: of the runs that are sent again.
            expiry: how often threads are looked after that have outlived their lifetime, and how many.
            every: seconds between two sweeps.
        """
        self._pool, self._client, self._task_queue = pool, client, task_queue
        self._limits, self._expiry, self._every = limits, expiry, every
        self._old_schedules = [sweep_workflow_id(task_queue), expire_workflow_id(task_queue)]

    async def run(self) -> None:
        """Look again and again."""
        pause = min(self._every, self._expiry.interval_minutes * 60)
        while True:
            await self.look()
            await self._retire_schedules()
            await asyncio.sleep(pause)

    async def look(self) -> list[str]:
        """Start what is due; return the ids of its workflows. What Temporal does not take is due again after the interval."""
        begun = list[str]()
        try:
            async with connection(self._pool) as conn:
                await idempotency.forget(conn)
            if sweep := await self._sweep():
                begun += await self._start(SWEEP, sweep, name=sweep_workflow_id(self._task_queue))
            if expiration := await self._expiration():
                begun += await self._start(EXPIRE, expiration, name=expire_workflow_id(self._task_queue))
        except TROUBLES as error:
            if not is_outage(error) and not is_clash(error):
                raise
            log.debug("Nobody can tell what is to be repaired", error=str(error))
        return begun

    async def _sweep(self) -> Sweep | None:
        given = Sweep(limits=self._limits)
        async with connection(self._pool) as conn:
            found = await due.sweep(conn, age=given.age, every=self._every)
        return found and Sweep(limits=self._limits, crons=found.crons)

    async def _expiration(self) -> Expiration | None:
        async with connection(self._pool) as conn:
            found = await due.expiry(conn, every=self._expiry.interval_minutes * 60)
        return Expiration(self._expiry.limit) if found else None

    async def _start(self, workflow: str, given: Sweep | Expiration, *, name: str) -> list[str]:
        try:
            await self._client.start_workflow(
                workflow,
                given,
                id=name,
                task_queue=self._task_queue,
                # The one before may still be at it.
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                rpc_timeout=SCHEDULE_TIMEOUT,
            )
        except (RPCError, RuntimeError) as error:
            log.warning("What is to be repaired has to wait for Temporal", workflow=workflow, error=str(error))
            return []
        return [name]

    async def _retire_schedules(self) -> None:
        """Delete the schedules by which earlier versions started the same workflows, whether there was work or not."""
        while self._old_schedules:
            try:
                await self._client.get_schedule_handle(self._old_schedules[-1]).delete(rpc_timeout=SCHEDULE_TIMEOUT)
            except (RPCError, RuntimeError) as error:
                if not isinstance(error, RPCError) or error.status is not RPCStatusCode.NOT_FOUND:
                    # Tried again beside the next look.
                    return
            self._old_schedules.pop()
