"""The transactions that decide about double texting: admission and cancellation.

Both lock the thread's row first, so for each thread they happen one after the other, and what they decide is durable
before anybody hears of it. Temporal only carries it out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from durathread import records
from durathread.db import expiry, quotas, runs, stored, threads
from durathread.db.filters import Filter
from durathread.db.pool import Connection
from durathread.db.runs import run_row
from durathread.db.saver import delete_for_runs
from durathread.db.sealed import sealed_in
from durathread.errors import Forbidden, NotFound, ThreadBusy
from durathread.records import Json, JsonObject, NewRun, Run, RunStatus, Thread

CancelAction = Literal["interrupt", "rollback"]

# What of a request may be secret, and no SQL reads.
SEALED_OPTIONS = ("input", "command", "config", "context", "relayed_answers", "webhook_secret")

CREATE_THREAD = """
INSERT INTO thread (thread_id, metadata, temporary, holder) VALUES (%s, %s, %s, %s) ON CONFLICT (thread_id) DO NOTHING
"""
# The transaction may have begun long before it got hold of its thread: runs are created in the order of admission.
INSERT_RUN: LiteralString = f"""
WITH admitted AS MATERIALIZED (SELECT clock_timestamp() AS at)
INSERT INTO run (run_id, thread_id, assistant_id, graph_id, strategy, metadata, kwargs, holder, created_at, updated_at)
SELECT %(run)s, %(thread)s, %(assistant)s, %(graph)s, %(strategy)s, %(metadata)s::jsonb, %(kwargs)s::jsonb, %(holder)s,
       at + make_interval(secs => %(after)s), at
FROM admitted
RETURNING {runs.COLUMNS_WITHOUT_INPUT}
"""
BUSY_THREAD = """
UPDATE thread SET status = 'busy', metadata = %(metadata)s, config = %(config)s, error = coalesce(%(error)s, error),
    updated_at = now()
WHERE thread_id = %(thread)s
"""
INTERRUPT_RUNS = """
UPDATE run SET status = 'interrupted', error = %(error)s, updated_at = clock_timestamp(), ended_at = clock_timestamp()
WHERE run_id = ANY(%(runs)s)
"""
DELETE_RUNS = "DELETE FROM run WHERE run_id = ANY(%(runs)s)"
THREAD_ERROR = "UPDATE thread SET error = %(error)s, updated_at = now() WHERE thread_id = %(thread)s"
# A run names its graph on its thread when it is admitted. If it is taken back, the checkpoints are those of another.
NAME_GRAPH = """
UPDATE thread t SET metadata = t.metadata || jsonb_build_object('graph_id', r.graph_id, 'assistant_id', r.assistant_id)
FROM (SELECT graph_id, assistant_id FROM run WHERE thread_id = %(thread)s AND started_at IS NOT NULL
      ORDER BY started_at DESC LIMIT 1) r
WHERE t.thread_id = %(thread)s AND t.metadata ->> 'graph_id' <> r.graph_id
"""
IN_FLIGHT: LiteralString = f"SELECT {runs.COLUMNS_WITHOUT_INPUT} FROM run WHERE thread_id = %s AND status IN ('pending', 'running') ORDER BY seq"
DELETE_UNUSED_THREAD = """
DELETE FROM thread t WHERE t.thread_id = %s AND NOT EXISTS (SELECT 1 FROM run r WHERE r.thread_id = t.thread_id)
"""
WITHDRAW = "DELETE FROM run WHERE run_id = %s AND status = 'pending' AND attempt = 0"

BUSY = "Thread is already running a task. Wait for it to finish or choose a different multitask strategy."


@dataclass(frozen=True)
class Admission:
    """A run that was admitted, and the runs that ended to make way for it."""

    run: Run
    superseded: tuple[Run, ...]
    # The state of the thread as its last run to end has left it, if runs ended to make way.
    before: Json = None
    # Whether its thread was created for it.
    created: bool = False
    # Whether the run was there already: who asks again, by the same id, gets what they got before.
    known: bool = False


async def admit(conn: Connection, new: NewRun, *, visible_to: Filter | None = None) -> Admission:
    """Insert a run, after what its strategy does to the runs in flight. The caller holds a transaction.

    Args:
        conn: with the transaction.
        new: the run.
        only: lets the thread through, also if that is made for the run.

    Raises:
        NotFound: the thread does not exist, and shall not be created.
        ThreadBusy: the strategy is `reject`, and a run is in flight.
        Forbidden: the thread that would be made is another's.
        TooMany: its holder has as many runs in flight as they may have, or has stored as much.
    """
    created = False
    if new.create_thread:
        args = (new.thread_id, Jsonb(dict(new.thread_metadata)), new.temporary, new.room.holder)
        created = (await conn.execute(CREATE_THREAD, args)).rowcount == 1
    if created and visible_to is not None and not visible_to.admits(dict(new.thread_metadata)):
        raise Forbidden("Forbidden")
    if created and new.lifetime:
        await expiry.grant(conn, new.thread_id, new.lifetime)
    thread = await threads.lock(conn, new.thread_id, visible_to=None if created else visible_to)
    if thread is None:
        raise NotFound("Thread or assistant not found.")
    known = None if created or new.minted else await runs.get(conn, new.run_id)
    if known is not None and known.thread_id == new.thread_id:
        return Admission(known, (), known=True)
    by_key = bool(new.options.fairness_key)
    async with stored.room(conn, await stored.of_thread(conn, new.thread_id, new.room, by_key=by_key)):
        return await _admit(conn, new, thread, created=created)


async def _admit(conn: Connection, new: NewRun, thread: Thread, *, created: bool) -> Admission:
    async with conn.cursor(row_factory=run_row) as cur:
        before = tuple(await (await cur.execute(IN_FLIGHT, (new.thread_id,))).fetchall())
    if before and new.strategy == "reject":
        raise ThreadBusy(BUSY)
    error, left = None, None
    if new.strategy in ("interrupt", "rollback") and before:
        left = await threads.get(conn, new.thread_id, hidden=True)
        error = superseded_error(new.strategy, f"superseded by run {new.run_id} (multitask_strategy={new.strategy})")
        await _end(conn, before, action="interrupt" if new.strategy == "interrupt" else "rollback", error=error)
    else:
        before = ()
    await quotas.require(conn, new.allowance, "run")
    run = await _insert(conn, new, thread)
    if thread.status != "busy" or error:
        await conn.execute(BUSY_THREAD, _busy(new, thread, error))
    return Admission(run, before, left and left.values, created)


async def cancel(
    conn: Connection,
    thread_id: UUID,
    *,
    run_ids: Sequence[UUID],
    action: CancelAction,
    reason: str,
    statuses: Sequence[RunStatus] = records.IN_FLIGHT,
    visible_to: Filter | None = None,
) -> list[Run]:
    """End those of the runs that are in flight, and return them as they were. The caller holds a transaction."""
    if await threads.lock(conn, thread_id, hidden=True, visible_to=visible_to) is None:
        return []
    async with conn.cursor(row_factory=run_row) as cur:
        before = await (await cur.execute(IN_FLIGHT, (thread_id,))).fetchall()
    found = [run for run in before if run.run_id in run_ids and run.status in statuses]
    if not found:
        return []
    error = superseded_error(action, reason)
    await _end(conn, found, action=action, error=error)
    await conn.execute(NAME_GRAPH, {"thread": thread_id})
    worked = any(run.status == "running" for run in found)
    if worked:
        await conn.execute(THREAD_ERROR, {"error": Jsonb(error), "thread": thread_id})
    # A run that worked leaves state behind: the thread stays busy until that is settled.
    if action == "rollback" or not worked:
        await runs.rest_thread(conn, thread_id)
    return found


async def delete(conn: Connection, thread_id: UUID, run_id: UUID, *, visible_to: Filter | None = None) -> Run | None:
    """Delete a run with its checkpoints unless it is in flight, and return it. The caller holds a transaction."""
    if await threads.lock(conn, thread_id, hidden=True, visible_to=visible_to) is None:
        return None
    run = await runs.get(conn, run_id)
    if run is None or run.thread_id != thread_id:
        return None
    if not run.in_flight:
        await conn.execute(DELETE_RUNS, {"runs": [run_id]})
        await delete_for_runs(conn, [str(run_id)], thread_id=str(thread_id))
        # What it has left can no longer be settled.
        await runs.rest_thread(conn, thread_id)
    return run


async def withdraw(conn: Connection, run: Run, *, with_thread: bool = False) -> bool:
    """Take back an admission that Temporal never heard of; say whether it could be. The caller holds a transaction."""
    await threads.lock(conn, run.thread_id, hidden=True)
    gone = (await conn.execute(WITHDRAW, (run.run_id,))).rowcount == 1
    await runs.rest_thread(conn, run.thread_id)
    if gone and with_thread:
        await conn.execute(DELETE_UNUSED_THREAD, (run.thread_id,))
    return gone


def superseded_error(action: str, message: str) -> JsonObject:
    """Say on a thread why its run was cut short."""
    return {"error": "UserRollback" if action == "rollback" else "UserInterrupt", "message": message}


async def _end(conn: Connection, found: Sequence[Run], *, action: CancelAction, error: JsonObject) -> None:
    ids = [run.run_id for run in found]
    if action == "interrupt":
        await conn.execute(INTERRUPT_RUNS, {"runs": ids, "error": Jsonb(error)})
        return
    # The rows go first: from then on no attempt passes the fence.
    await conn.execute(DELETE_RUNS, {"runs": ids})
    await delete_for_runs(conn, [str(run) for run in ids], thread_id=str(found[0].thread_id))


async def _insert(conn: Connection, new: NewRun, thread: Thread) -> Run:
    args = {
        "run": new.run_id,
        "thread": new.thread_id,
        "assistant": new.assistant.assistant_id,
        "graph": new.assistant.graph_id,
        "strategy": new.strategy,
        "metadata": Jsonb(_metadata(new, thread)),
        "kwargs": sealed_in(_options(new, thread), SEALED_OPTIONS),
        "holder": new.allowance.holder,
        "after": new.after_seconds,
    }
    async with conn.cursor(row_factory=run_row) as cur:
        row = await (await cur.execute(INSERT_RUN, args)).fetchone()
    assert row is not None
    # Not read back: it may be large.
    return replace(row, options=replace(row.options, input=new.options.input))


def _metadata(new: NewRun, thread: Thread) -> JsonObject:
    """assistant < thread < config < request; the assistant's id is forced."""
    config: JsonObject = new.options.config
    merged = {**new.assistant.metadata, **thread.metadata, **(config.get("metadata") or {}), **new.metadata}
    return {**merged, "assistant_id": str(new.assistant.assistant_id)}


def _options(new: NewRun, thread: Thread) -> JsonObject:
    """Merge the thread's and the server's keys into the request's `configurable`."""
    config: JsonObject = new.options.config
    configurable = {
        **new.assistant.config.get("configurable", {}),
        **thread.config.get("configurable", {}),
        **config.get("configurable", {}),
        "run_id": str(new.run_id),
        "thread_id": str(new.thread_id),
        "graph_id": new.assistant.graph_id,
        "assistant_id": str(new.assistant.assistant_id),
    }
    rest = {key: value for key, value in new.assistant.config.items() if key != "configurable"}
    return {**new.options.json(), "config": {**rest, **config, "configurable": configurable}}


def _busy(new: NewRun, thread: Thread, error: JsonObject | None) -> dict[str, Any]:
    config: JsonObject = new.options.config
    sticky = {key: value for key, value in config.items() if key not in ("configurable", "metadata")}
    configurable = {
        **thread.config.get("configurable", {}),
        **new.assistant.config.get("configurable", {}),
    }
    return {
        "thread": new.thread_id,
        "metadata": Jsonb(
            {
                **thread.metadata,
                "graph_id": new.assistant.graph_id,
                "assistant_id": str(new.assistant.assistant_id),
            }
        ),
        "config": Jsonb({**thread.config, **sticky, "configurable": configurable}),
        "error": Jsonb(error) if error else None,
    }
