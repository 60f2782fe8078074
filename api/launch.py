"""Starts and stops runs: first in the database, then in Temporal."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import structlog

from durathread import dispatch
from durathread.api.deps import Server
from durathread.api.removal import remove
from durathread.errors import Unavailable
from durathread.preparation import RunCreate, find_assistant, prepare, signal_of
from durathread.records import IN_FLIGHT, JsonObject, Run, RunStatus
from durathread.store import admission
from durathread.store.admission import Action, Admission
from durathread.store.pool import transaction
from durathread.streams.marks import conclude

log = structlog.get_logger()


async def launch(server: Server, body: RunCreate, *, thread_id: UUID | None, given: JsonObject | None = None) -> Run:
    """Admit a run and send it to its thread; without a thread id, to a thread of its own.

    Raises:
        Error: the run is refused; see `prepare`, `find_assistant` and `admission.admit`.
        Unavailable: an engine is away; nothing is left behind.
    """
    await server.require_temporal()
    async with transaction(server.pool) as conn:
        assistant = await find_assistant(conn, server.graphs, body.assistant_id)
        admitted = await admission.admit(conn, prepare(body, assistant, thread_id=thread_id, server=given))
    await deliver(server, admitted)
    return admitted.run


async def launch_all(server: Server, bodies: Sequence[RunCreate]) -> list[Run]:
    """Admit stateless runs, all or none, and send each to a thread of its own.

    Raises:
        Error: one is refused.
        Unavailable: an engine is away; nothing is left behind.
    """
    await server.require_temporal()
    async with transaction(server.pool) as conn:
        prepared = [
            prepare(body, await find_assistant(conn, server.graphs, body.assistant_id), thread_id=None)
            for body in bodies
        ]
        admitted = [await admission.admit(conn, new) for new in prepared]
    sent = await asyncio.gather(*(deliver(server, each) for each in admitted), return_exceptions=True)
    failures = [failure for failure in sent if failure is not None]
    if failures:
        for each in admitted:
            await remove(server, each.run.thread_id)
        raise failures[0]
    return [each.run for each in admitted]


async def deliver(server: Server, admitted: Admission) -> None:
    """Tell the thread's workflow, and whoever watches the runs that were superseded.

    Raises:
        Unavailable: Temporal did not take the signal; the admission has been taken back.
    """
    run = admitted.run
    nodes = server.first_nodes.get(run.graph_id, [])
    request = signal_of(run, admitted.superseded, limits=server.limits, nodes=nodes)
    signal = asyncio.create_task(dispatch.send(server.temporal, request, task_queue=server.settings.task_queue))
    await _announce(server, admitted.superseded, action="rollback" if run.strategy == "rollback" else "interrupt")
    try:
        await asyncio.shield(signal)
        server.temporal_seen = asyncio.get_running_loop().time()
    except Unavailable:
        async with transaction(server.pool) as conn:
            withdrawn = await admission.withdraw(conn, run, with_thread=admitted.created)
        if withdrawn:
            raise
        # The signal had arrived after all: only its answer was lost.


async def cancel(
    server: Server,
    thread_id: UUID,
    *,
    run_ids: Sequence[UUID],
    action: Action,
    reason: str,
    statuses: Sequence[RunStatus] = IN_FLIGHT,
) -> list[Run]:
    """End runs that are in flight, and return them as they were."""
    async with transaction(server.pool) as conn:
        ended = await admission.cancel(
            conn, thread_id, run_ids=run_ids, action=action, reason=reason, statuses=statuses
        )
    if not ended:
        return []
    word = "rollback" if action == "rollback" else "interrupted"
    signal = asyncio.create_task(
        dispatch.stop(server.temporal, thread_id, run_ids=[run.run_id for run in ended], reason=f"{word}: {reason}")
    )
    await _announce(server, ended, action=action)
    try:
        await asyncio.shield(signal)
    except Unavailable as error:
        # The fence stops what works at its next write.
        log.warning("A cancelled run could not be told", thread_id=str(thread_id), error=str(error))
    return ended


async def _announce(server: Server, ended: Sequence[Run], *, action: Action) -> None:
    status = "rollback" if action == "rollback" else "interrupted"
    await asyncio.gather(*(conclude(server.publisher, run, status) for run in ended))
