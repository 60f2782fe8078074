"""Starts and stops runs: first in the database, then in Temporal."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import structlog

from durathread.api.auth.authorization import Caller
from durathread.api.deps import Server
from durathread.api.services.allowances import with_holder
from durathread.api.services.request_headers import forwarded
from durathread.api.services.self_waits import callers, refuse_circle
from durathread.api.services.thread_deletion import remove
from durathread.db import admission, idempotency, quotas, runs, threads
from durathread.db.admission import Admission, CancelAction
from durathread.db.filters import Filter
from durathread.db.idempotency import Key
from durathread.db.pool import Connection, connection, transaction
from durathread.errors import Gone, NotFound, Unavailable
from durathread.graphs.registry import system_assistant_id
from durathread.records import IN_FLIGHT, Assistant, Json, JsonObject, NewRun, Run, RunOptions, RunStatus
from durathread.runs import signals
from durathread.runs.request import RunCreate, assistant_id_of, find_assistant, prepare, signal_of
from durathread.streams.thread_markers import conclude
from durathread.users import WEBHOOK_SECRET
from durathread.webhooks.policy import require_secret
from durathread.workflows.messages import RunRequest

log = structlog.get_logger()

# How long a signal waits for the streams of runs that have ended, in seconds.
MOMENT = 0.25


@dataclass(frozen=True)
class Allowed:
    """A run that its caller may create, if the thread passes the filter."""

    new: NewRun
    visible_to: Filter | None
    on_thread: bool
    """Whether it names a thread."""


async def launch(
    server: Server,
    caller: Caller,
    body: RunCreate,
    *,
    thread_id: UUID | None,
    given: JsonObject | None = None,
    waits: bool = False,
) -> Run:
    """Admit a run and send it to its thread; without a thread id, to a thread of its own.

    A node that asks again, since its step is repeated, gets the run that it got before. `waits` says that the caller goes on
    only when the run has ended.

    Raises:
        Error: the run is refused; see `prepare`, `find_assistant` and `admission.admit`.
        Conflict: the caller waits, and is at work on the thread itself.
        NotFound: its thread does not have the checkpoint to start from.
        Unavailable: an engine is away; nothing is left of it.
    """
    await server.require_temporal()
    allowed = named_by(caller, await allow(server, caller, body, thread_id=thread_id, given=given))
    async with transaction(server.pool) as conn:
        chain = await callers(conn, caller, body) if waits else []
        if chain:
            allowed = replace(allowed, new=replace(allowed.new, options=replace(allowed.new.options, callers=chain)))
        made = await idempotency.begin(conn, caller.key)
        admitted = await (
            found(conn, allowed.new) if made else admission.admit(conn, allowed.new, visible_to=allowed.visible_to)
        )
        # Afterwards: whoever may not use the thread is not told what works on it. The refusal takes the admission back.
        if chain and thread_id and allowed.new.strategy == "enqueue" and not made:
            await refuse_circle(conn, chain, thread_id)
        if thread_id and not made and (missing := await missing_start(conn, allowed.new)):
            raise NotFound(f"Checkpoint {missing} not found")
    await deliver(server, admitted, key=caller.key)
    return admitted.run


async def found(conn: Connection, new: NewRun) -> Admission:
    """Return the run that the same request has made before.

    Raises:
        Gone: it has been deleted since.
    """
    known = await runs.get(conn, new.run_id)
    if known is None:
        raise Gone("The run that this Idempotency-Key has made is gone.")
    return Admission(known, (), known=True)


def named_by(caller: Caller, allowed: Allowed, number: int = 0) -> Allowed:
    """Give a run the id that follows from the request, if a node sends it, or it has a key: a repeated one is then known."""
    if caller.names is None:
        return allowed
    new = replace(allowed.new, run_id=caller.names.named(f"run {number}"), minted=False)
    if not allowed.on_thread:
        new = replace(new, thread_id=caller.names.named(f"thread {number}"))
    return replace(allowed, new=new)


async def launch_all(
    server: Server, caller: Caller, bodies: Sequence[RunCreate], *, given: JsonObject | None = None
) -> list[Run]:
    """Admit stateless runs, all or none, and send each to a thread of its own.

    Raises:
        Error: one is refused.
        Unavailable: an engine is away; nothing is left of it.
    """
    await server.require_temporal()
    allowed = [
        named_by(caller, await allow(server, caller, body, thread_id=None, given=given), number)
        for number, body in enumerate(bodies)
    ]
    async with transaction(server.pool) as conn:
        made = await idempotency.begin(conn, caller.key)
        await quotas.take_turns(conn, [each.new for each in allowed])
        admitted = [
            await (found(conn, each.new) if made else admission.admit(conn, each.new, visible_to=each.visible_to))
            for each in allowed
        ]
    sent = await asyncio.gather(*(deliver(server, each, key=caller.key) for each in admitted), return_exceptions=True)
    failures = [failure for failure in sent if failure is not None]
    if failures:
        for each in (each for each in admitted if not each.known):
            await remove(server, each.run.thread_id, visible_to=None)
        raise failures[0]
    return [each.run for each in admitted]


async def allow(
    server: Server, caller: Caller, body: RunCreate, *, thread_id: UUID | None, given: JsonObject | None = None
) -> Allowed:
    """Prepare a run that its caller may create.

    Raises:
        Error: it cannot be, or they may not; see `chosen_assistant` and `prepare`.
    """
    assistant = await chosen_assistant(server, caller, body.assistant_id)
    server_keys = {**forwarded(), **(given or {}), **caller.configurable}
    prepared = prepare(body, assistant, terms=server.terms, thread_id=thread_id, server=server_keys)
    new = await with_holder(server, caller, prepared)
    value: JsonObject = {
        "thread_id": thread_id,
        "assistant_id": assistant.assistant_id,
        "run_id": new.run_id,
        "status": "pending",
        "metadata": new.metadata,
        "prevent_insert_if_inflight": new.strategy == "reject",
        "multitask_strategy": new.strategy,
        "if_not_exists": "create" if new.create_thread else "reject",
        "after_seconds": new.after_seconds,
        "kwargs": new.options.json(),
    }
    visible_to = await caller.ask("threads", "create_run", value)
    metadata: JsonObject = value.get("metadata") or {}
    # What a handler stamps on the run is also the new thread's; and a thread that is made for this request belongs to its
    # caller, who must find it again.
    stamped = {**new.thread_metadata, **metadata, **(visible_to.sole if visible_to else {})}
    options = RunOptions.of(value["kwargs"])
    own = {key: new.thread_metadata[key] for key in ("graph_id", "assistant_id")}
    new = replace(
        new,
        metadata=metadata,
        options=replace(options, webhook_secret=require_secret(value[WEBHOOK_SECRET]))
        if value.get(WEBHOOK_SECRET)
        else options,
        strategy=value["multitask_strategy"],
        after_seconds=value["after_seconds"],
        thread_metadata={**stamped, **own},
    )
    return Allowed(new, visible_to, on_thread=thread_id is not None)


async def missing_start(conn: Connection, new: NewRun) -> str | None:
    """Return the checkpoint that a run asks to start from, if it is one of the root graph and its thread does not have it.

    Those that the run's strategy has deleted are missing too: ask in the transaction of its admission, afterwards.
    """
    configurable: JsonObject = new.options.configurable
    checkpoint_id: str | None = configurable.get("checkpoint_id")
    if not checkpoint_id or configurable.get("checkpoint_ns"):
        return None
    return None if await threads.has_checkpoint(conn, new.thread_id, checkpoint_id) else checkpoint_id


async def chosen_assistant(server: Server, caller: Caller, name: str) -> Assistant:
    """Find the assistant that a run or a cron names, if its caller may read it.

    Raises:
        Error: there is none of that name, or it is not the caller's; see `find_assistant`.
    """
    assistant_id = assistant_id_of(server.graphs, name)
    visible_to = None
    # Those that graphs have by themselves are for everybody who may create runs.
    if assistant_id not in {system_assistant_id(graph_id) for graph_id in server.graphs}:
        visible_to = await caller.ask("assistants", "read", {"assistant_id": assistant_id})
    async with connection(server.pool) as conn:
        return await find_assistant(conn, server.graphs, name, visible_to=visible_to)


async def deliver(server: Server, admitted: Admission, *, key: Key | None = None) -> None:
    """Tell the thread's workflow, and whoever watches the runs that were superseded. `key` is that of the request.

    Raises:
        Unavailable: Temporal did not take the signal; the admission has been taken back.
    """
    run = admitted.run
    if admitted.known and not run.in_flight:
        return
    nodes = server.first_nodes.get(run.graph_id, [])
    request = signal_of(run, admitted.superseded, limits=server.limits, nodes=nodes)
    action: CancelAction = "rollback" if run.strategy == "rollback" else "interrupt"
    signal = _send(server, request)
    try:
        await _replace(server, admitted.superseded, action=action, before=admitted.before, signal=signal)
    except Unavailable:
        if admitted.known:
            # Whoever admitted it has sent it, or it will be found.
            return
        async with transaction(server.pool) as conn:
            withdrawn = await admission.withdraw(conn, run, with_thread=admitted.created)
            if withdrawn:
                await idempotency.take_back(conn, key)
        if withdrawn:
            raise
        # The signal had arrived after all: only its answer was lost.


async def _send(server: Server, request: RunRequest) -> None:
    async with server.sending:
        # Temporal may have gone while we waited for our turn.
        await server.require_temporal()
        await signals.send(server.temporal, request, task_queue=server.settings.task_queue)
        server.temporal_seen = asyncio.get_running_loop().time()


async def cancel(
    server: Server,
    thread_id: UUID,
    *,
    run_ids: Sequence[UUID],
    action: CancelAction,
    reason: str,
    statuses: Sequence[RunStatus] = IN_FLIGHT,
    visible_to: Filter | None = None,
) -> list[Run]:
    """End runs that are in flight, of a thread that the filter lets through, and return them as they were."""
    async with transaction(server.pool) as conn:
        ended = await admission.cancel(
            conn, thread_id, run_ids=run_ids, action=action, reason=reason, statuses=statuses, visible_to=visible_to
        )
        thread = await threads.get(conn, thread_id, hidden=True) if ended else None
        alone = not await runs.in_flight(conn, thread_id)
    if not ended:
        return []
    word = "rollback" if action == "rollback" else "interrupted"
    run_ids = [run.run_id for run in ended]
    signal = signals.stop(server.temporal, thread_id, run_ids=run_ids, reason=f"{word}: {reason}")
    before = thread.values if thread else None
    try:
        await _replace(server, ended, action=action, before=before, signal=signal, alone=alone)
    except Unavailable as error:
        # The fence stops what works at its next write.
        log.warning("A cancelled run could not be told", thread_id=str(thread_id), error=str(error))
    return ended


async def _replace(
    server: Server,
    ended: Sequence[Run],
    *,
    action: CancelAction,
    before: Json,
    signal: Coroutine[Any, Any, None],
    alone: bool = False,
) -> None:
    """End the streams of runs, then send a signal: what ends comes before what begins, on their thread's stream too.

    It is sent although the caller is cancelled, and although Valkey is slow. If no run takes their place, they are `alone`:
    the first of them, whose turn it was, is then seen to end though it never began.
    """
    status = "rollback" if action == "rollback" else "interrupted"

    async def deliver_both() -> None:
        announced = asyncio.gather(
            *(conclude(server.publisher, run, status, before=before, alone=alone and run is ended[0]) for run in ended)
        )
        await asyncio.wait([announced], timeout=MOMENT)
        try:
            await signal
        finally:
            await announced

    await asyncio.shield(asyncio.create_task(deliver_both()) if ended else asyncio.create_task(signal))
