"""Which database a task queue of Temporal belongs to: two on one queue would swallow each other's runs.

A schedule that never starts anything says so in its note. Temporal creates it for one of those who ask at once; people
read it in the UI, and it is there before the first worker, and after the last.
"""

import asyncio
import re
from datetime import timedelta

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError, RPCStatusCode

from durathread.db.deployment import Deployment
from durathread.errors import Unprepared
from durathread.temporal.connection import owner_schedule_id
from durathread.workflows.messages import SWEEP, Sweep

# How long one answer may take.
TIMEOUT = timedelta(seconds=5)
# Between a change and the look whether it is there, in seconds.
PAUSE = 0.05
NOTE = re.compile(r"deployment (?P<deployment>[0-9a-f-]{36})(?:, database (?P<place>[^ ,;]+))?")


async def claim(client: Client, deployment: Deployment, *, task_queue: str) -> None:
    """Make a task queue a database's own, if it is nobody's.

    Raises:
        Unprepared: it belongs to another database; says how to proceed.
        RPCError: Temporal does not answer.
    """
    note = await _first(client, deployment, task_queue)
    if note is None:
        return
    owner = NOTE.search(note)
    if owner is None or owner["deployment"] != str(deployment.deployment_id):
        raise Unprepared(
            f"Task queue '{task_queue}' in Temporal's namespace '{client.namespace}' belongs to another database "
            f"({note}), not to deployment {deployment.deployment_id}. Give this one another queue (DURATHREAD_TASK_QUEUE) or "
            "namespace (TEMPORAL_NAMESPACE). If the other database is gone: durathread migrate --claim"
        )
    if owner["place"] and deployment.place and owner["place"] != deployment.place:
        raise Unprepared(
            f"Task queue '{task_queue}' in Temporal's namespace '{client.namespace}' belongs to the database that this one "
            f"is a copy of ({note}; this is database {deployment.place}). If it takes the place of the other: "
            "durathread migrate --claim. If both are to serve, give this one a Temporal namespace of its own "
            "(TEMPORAL_NAMESPACE)."
        )


async def take_over(client: Client, deployment: Deployment, *, task_queue: str) -> None:
    """Make a task queue a database's own, whosever it was. Who asks afterwards, finds it so.

    Raises:
        RPCError: Temporal does not answer.
    """
    note = _note(deployment)

    def renote(given: ScheduleUpdateInput) -> ScheduleUpdate:
        schedule = given.description.schedule
        schedule.state.note = note
        return ScheduleUpdate(schedule)

    # Temporal answers before it has changed anything, and drops a change that crosses another.
    while await _first(client, deployment, task_queue) not in (None, note):
        await client.get_schedule_handle(owner_schedule_id(task_queue)).update(renote, rpc_timeout=TIMEOUT)
        await asyncio.sleep(PAUSE)


async def _first(client: Client, deployment: Deployment, task_queue: str) -> str | None:
    """Write a database's name on a task queue; return what is written there if somebody was first."""
    name = owner_schedule_id(task_queue)
    # It is paused and never due; started by hand, it does what the server does anyway.
    action = ScheduleActionStartWorkflow(SWEEP, Sweep(), id=name, task_queue=task_queue)
    schedule = Schedule(action, spec=ScheduleSpec(), state=ScheduleState(note=_note(deployment), paused=True))
    while True:
        try:
            await client.create_schedule(name, schedule, rpc_timeout=TIMEOUT)
        except ScheduleAlreadyRunningError:
            try:
                return (await client.get_schedule_handle(name).describe(rpc_timeout=TIMEOUT)).schedule.state.note or ""
            except RPCError as error:
                # Deleted in this moment.
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
        else:
            return None


def _note(deployment: Deployment) -> str:
    place = f", database {deployment.place}" if deployment.place else ""
    return f"deployment {deployment.deployment_id}{place}"
