"""Runs: what reads them, and what an attempt at one of their steps may change."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg.rows import class_row, kwargs_row
from psycopg.types.json import Jsonb

from durathread.db.filters import THREAD_SHOWN, Filter, shown
from durathread.db.pool import Connection
from durathread.db.presence import IS_GONE, Presence
from durathread.db.sealed import sealed, sealed_error
from durathread.records import ATTEMPTS, JsonObject, Run, RunOptions, RunStatus, ThreadStatus, call_of

COLUMNS: LiteralString = (
    "run_id, thread_id, assistant_id, graph_id, seq, status, strategy, metadata, kwargs, error, checkpoint_id, attempt, "
    "step, repeated, retries, deaths, opening, created_at, updated_at, started_at, ended_at"
)

# Only the first step needs the input, which may be large.
COLUMNS_OF_A_STEP: LiteralString = COLUMNS.replace(
    "kwargs", "CASE WHEN %(step)s > 0 THEN kwargs - 'input' ELSE kwargs END AS kwargs"
)

# What decides about runs needs no input either.
COLUMNS_WITHOUT_INPUT: LiteralString = COLUMNS.replace("kwargs", "kwargs - 'input' AS kwargs")

GET: LiteralString = f"SELECT {COLUMNS} FROM run WHERE run_id = %(run)s AND {THREAD_SHOWN}"
FIND: LiteralString = f"SELECT {COLUMNS_WITHOUT_INPUT} FROM run WHERE run_id = %(run)s AND {THREAD_SHOWN}"
LISTED: LiteralString = """
FROM run WHERE thread_id = %(thread)s AND (%(status)s::text IS NULL OR status = %(status)s)
ORDER BY created_at DESC, seq DESC LIMIT %(limit)s OFFSET %(offset)s
"""
LIST: LiteralString = f"SELECT {COLUMNS} {LISTED}"
LIST_WITHOUT_INPUT: LiteralString = f"SELECT {COLUMNS_WITHOUT_INPUT} {LISTED}"
# The newest run, and those in flight.
HEADS: LiteralString = f"""
SELECT {COLUMNS_WITHOUT_INPUT} FROM run WHERE thread_id = %(thread)s AND (status IN ('pending', 'running') OR run_id = (
    SELECT run_id FROM run WHERE thread_id = %(thread)s ORDER BY created_at DESC, seq DESC LIMIT 1
))
ORDER BY created_at DESC, seq DESC
"""
STANDINGS = "SELECT run_id, thread_id, status, started_at FROM run WHERE run_id = ANY(%s)"
# Tokens grow with each attempt that Temporal starts, so an attempt that comes late finds a larger one and stops.
# A death counts if the one who had claimed the run in this very call of the step is gone: a step that was handed back in order
# is another call. One that comes anew on the same worker is no death.
CLAIM: LiteralString = f"""
UPDATE run SET attempt = %(token)s, status = 'running', started_at = coalesce(started_at, clock_timestamp()), step = %(step)s,
    repeated = step >= %(step)s, retries = retries + (step >= %(step)s)::int,
    deaths = CASE WHEN step < %(step)s THEN 0
                  WHEN attempt < %(call)s OR claimant IS NULL OR claimant = %(worker)s THEN deaths
                  WHEN claimant = %(died)s OR {IS_GONE} THEN deaths + 1
                  ELSE deaths END,
    claimant = %(worker)s, claimant_boot = %(boot)s
WHERE run_id = %(run)s AND status IN ('pending', 'running') AND attempt < %(token)s
RETURNING {COLUMNS_OF_A_STEP}
"""
OWNED = "SELECT 1 FROM run WHERE run_id = %(run)s AND attempt = %(token)s AND status = 'running'"
NOTE_OPENING = "UPDATE run SET opening = %(opening)s WHERE run_id = %(run)s AND attempt = %(token)s"

LOCK_THREAD_OF_RUN = (
    "SELECT 1 FROM thread WHERE thread_id = (SELECT thread_id FROM run WHERE run_id = %(run)s) FOR UPDATE"
)
END_OWNED = """
SELECT end_run(%(run)s, %(token)s, %(status)s, %(resting)s, %(error)s, %(known)s, %(values)s, %(interrupts)s, %(checkpoint)s)
       AS ended
"""

END_UNOWNED = f"""
UPDATE run SET status = %(status)s, error = %(error)s, updated_at = now(), ended_at = now()
WHERE run_id = %(run)s AND status IN ('pending', 'running') RETURNING {COLUMNS_WITHOUT_INPUT}
"""
# A run that worked and could not write its own end: what it left is to be settled.
CUT_SHORT: LiteralString = "w.started_at IS NOT NULL AND w.status IN ('interrupted', 'error', 'timeout')"
# A run that was refused before it wrote anything leaves its thread as it was: it has not worked.
END_REFUSED = f"""
WITH ended AS (
    UPDATE run SET status = 'error', error = %(error)s, updated_at = now(), ended_at = now(), started_at = NULL
    WHERE run_id = %(run)s AND attempt = %(token)s AND status = 'running' RETURNING *
)
UPDATE thread t SET updated_at = now(), status = CASE WHEN EXISTS (
        SELECT 1 FROM run o WHERE o.thread_id = t.thread_id AND o.run_id <> e.run_id AND o.status IN ('pending', 'running')
    ) OR EXISTS (
        SELECT 1 FROM run w WHERE w.thread_id = t.thread_id AND w.run_id <> e.run_id AND {CUT_SHORT}
        AND w.started_at > coalesce(t.ended_started_at, '-infinity')
    ) THEN 'busy' ELSE t.resting END
FROM ended e WHERE t.thread_id = e.thread_id
"""
LOAD = """
SELECT count(*) FILTER (WHERE status = 'pending') AS pending, count(*) FILTER (WHERE status = 'running') AS running,
    coalesce(extract(epoch FROM now() - min(created_at) FILTER (WHERE status = 'pending' AND created_at <= now())), 0)::float8
    AS waited
FROM run WHERE status IN ('pending', 'running')
"""
# One that wrote nothing has left what those before it have, that are not settled. One that resumed may have written only
# onto a checkpoint of another; what is written onto one that was not stored counts for nothing.
LAST_CHECKPOINT = f"""
WITH author AS (
    SELECT w.run_id::text AS id FROM thread t JOIN run w USING (thread_id)
    WHERE t.thread_id = %(thread)s AND (w.run_id = %(run)s OR (
        {CUT_SHORT} AND w.started_at > coalesce(t.ended_started_at, '-infinity') AND w.started_at < %(started)s
    ))
)
SELECT greatest(
    (SELECT max(c.checkpoint_id) FROM checkpoints c WHERE c.thread_id = %(thread)s::text AND c.checkpoint_ns = ''
     AND c.metadata ->> 'run_id' = ANY(ARRAY(SELECT id FROM author))),
    (SELECT max(p.checkpoint_id) FROM checkpoint_writes p JOIN checkpoints USING (thread_id, checkpoint_ns, checkpoint_id)
     WHERE p.thread_id = %(thread)s::text AND p.checkpoint_ns = '' AND p.run_id = ANY(ARRAY(SELECT id FROM author)))
) AS id
"""
# When a run had its turn on its thread. It has ended, or has started; one that is delayed may be overtaken.
TURN: LiteralString = "coalesce(r.started_at, r.ended_at)"
LATER: LiteralString = f"(t.ended_started_at IS NULL OR t.ended_started_at < {TURN})"
# One that never worked has left nothing, and does not speak for those that have.
SETTLE_THREAD = f"""
UPDATE thread t SET
    resting = coalesce(%(resting)s, t.resting),
    status = CASE WHEN EXISTS (SELECT 1 FROM run o WHERE o.thread_id = t.thread_id AND o.status IN ('pending', 'running'))
             OR EXISTS (SELECT 1 FROM run w WHERE w.thread_id = t.thread_id AND {CUT_SHORT}
                        AND w.started_at > coalesce(greatest(r.started_at, t.ended_started_at), '-infinity'))
             THEN 'busy' ELSE coalesce(%(resting)s, t.resting) END,
    "values" = CASE WHEN %(known)s THEN %(values)s::jsonb ELSE t."values" END,
    interrupts = CASE WHEN %(known)s THEN %(interrupts)s::jsonb ELSE coalesce(t.interrupts, '{{}}') END,
    error = r.error, ended_started_at = coalesce(r.started_at, t.ended_started_at), ended_run_id = r.run_id, hidden = t.temporary,
    updated_at = now(), state_updated_at = now()
FROM run r
WHERE r.run_id = %(run)s AND t.thread_id = r.thread_id AND {LATER}
"""
# A thread whose superseded run was deleted has nothing to settle but its status.
REST_THREAD = f"""
UPDATE thread t SET status = t.resting, updated_at = now()
WHERE t.thread_id = %(thread)s AND t.status = 'busy'
  AND NOT EXISTS (SELECT 1 FROM run o WHERE o.thread_id = t.thread_id AND o.status IN ('pending', 'running'))
  AND NOT EXISTS (SELECT 1 FROM run w WHERE w.thread_id = t.thread_id AND {CUT_SHORT}
                  AND w.started_at > coalesce(t.ended_started_at, '-infinity'))
"""
TOUCHED = "greatest(created_at, updated_at, coalesce(started_at, created_at))"
# One that its thread's workflow held when it was asked is asked again when it is twice as old: at most twenty times `age` later.
IS_STRANDED: LiteralString = f"""
status IN ('pending', 'running') AND {TOUCHED} < now() - make_interval(secs => %(age)s) AND (
    asked_at IS NULL OR asked_at < {TOUCHED} OR now() - asked_at >= least(asked_at - {TOUCHED}, make_interval(secs => 20 * %(age)s))
)
"""
STRANDED: LiteralString = f"""
SELECT {COLUMNS_WITHOUT_INPUT} FROM run WHERE {IS_STRANDED} AND seq > %(after)s ORDER BY seq LIMIT %(limit)s
"""
# Never waits for others' locks: those who end several runs take theirs in another order.
NOTE_ASKED = """
UPDATE run SET asked_at = now() WHERE run_id IN (SELECT run_id FROM run WHERE run_id = ANY(%s) FOR UPDATE SKIP LOCKED)
"""
# A busy thread without a run in flight waits for what its last run has left to be settled; or that run is gone.
IS_UNSETTLED: LiteralString = """
t.status = 'busy' AND t.updated_at < now() - make_interval(secs => %(age)s)
AND NOT EXISTS (SELECT 1 FROM run o WHERE o.thread_id = t.thread_id
                AND (o.status IN ('pending', 'running') OR o.updated_at > now() - make_interval(secs => %(age)s)))
"""
UNSETTLED: LiteralString = f"""
SELECT t.thread_id, (SELECT r.run_id FROM run r WHERE r.thread_id = t.thread_id AND {LATER}
                     ORDER BY r.started_at DESC NULLS LAST, r.ended_at DESC LIMIT 1) AS run_id
FROM thread t WHERE {IS_UNSETTLED} LIMIT %(limit)s
"""
WITH_STATUS: LiteralString = f"""
SELECT thread_id, array_agg(run_id) AS run_ids FROM run WHERE status = ANY(%(statuses)s) AND {THREAD_SHOWN}
GROUP BY thread_id
"""
IN_FLIGHT = "SELECT run_id FROM run WHERE thread_id = %s AND status IN ('pending', 'running') ORDER BY seq"


# The runs that had their turn on a thread before another. One may have been stopped before it did anything.
WORKED_BEFORE = """
SELECT run_id FROM run WHERE thread_id = %(thread)s AND run_id <> %(run)s AND started_at IS NOT NULL
ORDER BY started_at DESC LIMIT 3
"""

LAST_SEQ = "SELECT coalesce(max(seq), 0) AS seq FROM run WHERE thread_id = %s"


@dataclass(frozen=True)
class Standing:
    """How far a run is."""

    run_id: UUID
    thread_id: UUID
    status: RunStatus
    started_at: datetime | None


@dataclass(frozen=True)
class Load:
    """How many runs are in flight, and how long the oldest pending one has been due, in seconds."""

    pending: int
    running: int
    waited: float


def _run(*, kwargs: JsonObject, **columns: Any) -> Run:
    return Run(options=RunOptions.of(kwargs), **columns)


run_row = kwargs_row(_run)
"""Makes runs of rows."""


async def load(conn: Connection) -> Load:
    """Count the runs in flight."""
    async with conn.cursor(row_factory=class_row(Load)) as cur:
        row = await (await cur.execute(LOAD)).fetchone()
    assert row is not None
    return row


async def get(conn: Connection, run_id: UUID, *, visible_to: Filter | None = None) -> Run | None:
    """Read a run, of a thread that the filter lets through."""
    async with conn.cursor(row_factory=run_row) as cur:
        return await (await cur.execute(GET, {"run": run_id, "only": shown(visible_to)})).fetchone()


async def find(conn: Connection, run_id: UUID, *, visible_to: Filter | None = None) -> Run | None:
    """Read a run as `get` does, but for its input: that may be large."""
    async with conn.cursor(row_factory=run_row) as cur:
        return await (await cur.execute(FIND, {"run": run_id, "only": shown(visible_to)})).fetchone()


async def listed(
    conn: Connection, thread_id: UUID, *, status: str | None, limit: int, offset: int, with_input: bool = True
) -> list[Run]:
    """List the runs of a thread, newest first."""
    async with conn.cursor(row_factory=run_row) as cur:
        args = {"thread": thread_id, "status": status, "limit": limit, "offset": offset}
        return await (await cur.execute(LIST if with_input else LIST_WITHOUT_INPUT, args)).fetchall()


async def heads(conn: Connection, thread_id: UUID) -> list[Run]:
    """Read the newest run of a thread and those in flight, newest first, without their inputs."""
    async with conn.cursor(row_factory=run_row) as cur:
        return await (await cur.execute(HEADS, {"thread": thread_id})).fetchall()


async def in_flight(conn: Connection, thread_id: UUID) -> list[UUID]:
    """Name the runs of a thread that are pending or running, in order of admission."""
    return [row["run_id"] for row in await (await conn.execute(IN_FLIGHT, (thread_id,))).fetchall()]


async def worked_before(conn: Connection, run: Run) -> list[UUID]:
    """Name the few runs that have worked on a thread before this one, the last of them first."""
    args = {"thread": run.thread_id, "run": run.run_id}
    return [row["run_id"] for row in await (await conn.execute(WORKED_BEFORE, args)).fetchall()]


async def last_seq(conn: Connection, thread_id: UUID) -> int:
    """Return the largest admission number of a thread's runs; 0 without any."""
    return (await (await conn.execute(LAST_SEQ, (thread_id,))).fetchall())[0]["seq"]


async def with_status(
    conn: Connection, statuses: Sequence[RunStatus], *, visible_to: Filter | None = None
) -> dict[UUID, list[UUID]]:
    """Name the runs that have one of the statuses, by thread that the filter lets through."""
    args = {"statuses": list(statuses), "only": shown(visible_to)}
    rows = await (await conn.execute(WITH_STATUS, args)).fetchall()
    return {row["thread_id"]: row["run_ids"] for row in rows}


async def stranded(conn: Connection, *, age: float, limit: int, after: int = 0) -> list[Run]:
    """Find runs that have been in flight, untouched, for `age` seconds; in order of admission, after number `after`.

    Those that a thread was found to hold are left out for a while.
    """
    async with conn.cursor(row_factory=run_row) as cur:
        return await (await cur.execute(STRANDED, {"age": age, "limit": limit, "after": after})).fetchall()


async def note_asked(conn: Connection, run_ids: Sequence[UUID]) -> None:
    """Note of runs that the workflows of their threads hold them."""
    await conn.execute(NOTE_ASKED, (list(run_ids),))


async def unsettled(conn: Connection, *, age: float, limit: int) -> list[tuple[UUID, UUID | None]]:
    """Find threads that have been busy without a run in flight for `age` seconds, and the run that each waits for."""
    rows = await (await conn.execute(UNSETTLED, {"age": age, "limit": limit})).fetchall()
    return [(row["thread_id"], row["run_id"]) for row in rows]


async def claim(
    conn: Connection, run_id: UUID, *, token: int, step: int, presence: Presence | None = None, died: int | None = None
) -> Run | None:
    """Make an attempt the only one that may write for a run; None if the run is over or a later attempt has it.

    Of a step after the first the run comes without its input.

    Args:
        conn: a connection.
        run_id: the run.
        token: of the attempt.
        step: which the attempt is at.
        presence: of the process that the attempt is in; without it, its death will not be seen.
        died: the number of a worker that is known to have died.
    """
    args = {
        "run": run_id,
        "token": token,
        "call": call_of(token) * ATTEMPTS,
        "step": step,
        "worker": presence and presence.worker,
        "boot": presence and presence.boot,
        "died": died,
    }
    async with conn.cursor(row_factory=run_row) as cur:
        return await (await cur.execute(CLAIM, args)).fetchone()


async def is_owned(conn: Connection, run_id: UUID, *, token: int) -> bool:
    """Say whether an attempt may still write for a run."""
    return bool((await conn.execute(OWNED, {"run": run_id, "token": token})).rowcount)


async def note_opening(conn: Connection, run_id: UUID, *, token: int, opening: JsonObject) -> None:
    """Keep what a repeated first step must know."""
    await conn.execute(NOTE_OPENING, {"run": run_id, "token": token, "opening": sealed(opening)})


async def end_owned(
    conn: Connection,
    run_id: UUID,
    *,
    token: int,
    status: RunStatus,
    resting: ThreadStatus,
    error: JsonObject | None,
    values: Any,
    interrupts: JsonObject | None,
    checkpoint_id: str | None,
) -> bool:
    """End a run and write its outcome to its thread, if the attempt still owns it; say whether it did.

    Interrupts of None leave the thread's values and interrupts as they are.
    """
    args = {
        "run": run_id,
        "token": token,
        "status": status,
        "resting": resting,
        "error": sealed_error(error),
        "known": interrupts is not None,
        "values": None if values is None else sealed(values),
        "interrupts": sealed(interrupts or {}),
        "checkpoint": checkpoint_id,
    }
    rows = await (await conn.execute(END_OWNED, args)).fetchall()
    return rows[0]["ended"]


async def end_refused(conn: Connection, run_id: UUID, *, token: int, error: JsonObject | None) -> bool:
    """End a run that wrote nothing, if the attempt still owns it; say whether it did. The caller holds a transaction."""
    args = {"run": run_id, "token": token, "error": sealed_error(error)}
    await conn.execute(LOCK_THREAD_OF_RUN, args)
    return (await conn.execute(END_REFUSED, args)).rowcount == 1


async def end_unowned(conn: Connection, run_id: UUID, *, status: RunStatus, error: JsonObject | None) -> Run | None:
    """End a run whose attempt cannot; None if it has ended already. The caller holds a transaction."""
    # Why a run was interrupted is in our own words, and SQL reads it.
    said = sealed_error(error) if status != "interrupted" else error and Jsonb(error)
    args = {"run": run_id, "status": status, "error": said or None}
    await conn.execute(LOCK_THREAD_OF_RUN, args)
    async with conn.cursor(row_factory=run_row) as cur:
        return await (await cur.execute(END_UNOWNED, args)).fetchone()


async def last_checkpoint(conn: Connection, run: Run) -> str | None:
    """Return the id of the checkpoint that a run has left its thread at, subgraphs aside; None if nothing was written."""
    args = {"thread": run.thread_id, "run": run.run_id, "started": run.started_at}
    rows = await (await conn.execute(LAST_CHECKPOINT, args)).fetchall()
    return rows[0]["id"]


async def settle_thread(
    conn: Connection, run_id: UUID, *, resting: ThreadStatus | None, values: Any, interrupts: JsonObject | None
) -> None:
    """Write to a thread what an ended run left, unless a later run has ended since. The caller holds a transaction.

    Without a `resting` status, and without values, the thread keeps what it has.
    """
    args = {
        "run": run_id,
        "resting": resting,
        "known": interrupts is not None,
        "values": None if values is None else sealed(values),
        "interrupts": sealed(interrupts or {}),
    }
    await conn.execute(LOCK_THREAD_OF_RUN, args)
    await conn.execute(SETTLE_THREAD, args)


async def rest_thread(conn: Connection, thread_id: UUID) -> None:
    """Give a thread without runs in flight, and without any that is to be settled, the status that it rests in."""
    await conn.execute(REST_THREAD, {"thread": thread_id})


async def standings(conn: Connection, run_ids: Sequence[UUID]) -> list[Standing]:
    """Say of several runs how far they are."""
    async with conn.cursor(row_factory=class_row(Standing)) as cur:
        return await (await cur.execute(STANDINGS, (list(run_ids),))).fetchall()
