"""Threads: what reads and changes their rows."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Literal, LiteralString
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from durathread.db.filters import SHOWN, Filter, shown
from durathread.db.pool import Connection
from durathread.db.sealed import sealed
from durathread.db.searches import Searched
from durathread.errors import NotFound, ThreadBusy
from durathread.records import JsonObject, Thread, ThreadStatus

SortBy = Literal["thread_id", "status", "created_at", "updated_at", "state_updated_at"]

COLUMNS: LiteralString = (
    'thread_id, status, resting, metadata, config, "values", interrupts, error, ended_started_at, ended_run_id, temporary, hidden, '
    "created_at, updated_at, state_updated_at"
)
# The values of a thread can be large: a search that does not show them does not read them.
COLUMNS_WITHOUT_VALUES: LiteralString = COLUMNS.replace('"values"', 'NULL::jsonb AS "values"')
GET: LiteralString = f"SELECT {COLUMNS} FROM thread WHERE thread_id = %(thread)s AND {SHOWN}"
GET_VISIBLE: LiteralString = f"{GET} AND NOT hidden"
FIND: LiteralString = f"SELECT {COLUMNS_WITHOUT_VALUES} FROM thread WHERE thread_id = %(thread)s AND {SHOWN}"
FIND_VISIBLE: LiteralString = f"{FIND} AND NOT hidden"
LOCK: LiteralString = f"{FIND} FOR UPDATE"
LOCK_VISIBLE: LiteralString = f"{FIND_VISIBLE} FOR UPDATE"
TURNS = "SELECT thread_id, ended_started_at FROM thread WHERE thread_id = ANY(%s)"
INSERT: LiteralString = f"""
INSERT INTO thread (thread_id, metadata, holder) VALUES (%(thread)s, %(metadata)s, %(holder)s)
ON CONFLICT (thread_id) DO NOTHING RETURNING {COLUMNS}
"""
PATCH: LiteralString = f"""
UPDATE thread SET metadata = metadata || %(metadata)s, updated_at = now()
WHERE thread_id = %(thread)s AND NOT hidden AND {SHOWN} RETURNING {COLUMNS}
"""
COPY: LiteralString = f"""
INSERT INTO thread
    (thread_id, status, resting, metadata, config, "values", interrupts, error, ttl_strategy, ttl_minutes, hidden,
     holder)
SELECT %(target)s, resting, resting, coalesce(%(metadata)s, metadata), config, "values", interrupts, error, ttl_strategy,
    ttl_minutes, %(hidden)s, coalesce(%(holder)s, holder)
FROM thread WHERE thread_id = %(source)s AND NOT hidden RETURNING {COLUMNS}
"""
REVEAL = "UPDATE thread SET hidden = FALSE WHERE thread_id = %s AND NOT temporary"
IN_FLIGHT = "EXISTS (SELECT 1 FROM run r WHERE r.thread_id = thread.thread_id AND r.status IN ('pending', 'running'))"
# No run has left this state: whoever joins the last run reads its checkpoint, and what a cancelled run has yet to settle
# comes too late.
PUT_STATE: LiteralString = f"""
UPDATE thread SET resting = %(resting)s, status = CASE WHEN {IN_FLIGHT} THEN 'busy' ELSE %(resting)s END,
    "values" = %(values)s, interrupts = %(interrupts)s, error = NULL, ended_run_id = NULL,
    ended_started_at = clock_timestamp(),
    updated_at = now(), state_updated_at = now()
WHERE thread_id = %(thread)s RETURNING {COLUMNS}
"""
# Changes with whatever changes a thread: its row, its checkpoints, or what is pending on them.
VERSION = """
SELECT t.xmin::text || '/' || (SELECT count(*) || '/' || coalesce(max(checkpoint_id), '') FROM checkpoints
                               WHERE thread_id = %(thread)s::text)
       || '/' || (SELECT count(*) FROM checkpoint_writes WHERE thread_id = %(thread)s::text) AS version
FROM thread t WHERE t.thread_id = %(thread)s
"""
BUSY: LiteralString = f"SELECT 1 AS busy FROM thread WHERE thread_id = %s AND {IN_FLIGHT}"
HAS_CHECKPOINT = "SELECT 1 FROM checkpoints WHERE thread_id = %s AND checkpoint_ns = '' AND checkpoint_id = %s"
WENT_BACK = """
WITH step AS (
    SELECT checkpoint_id, (metadata ->> 'step')::int AS number FROM checkpoints
    WHERE thread_id = %s AND checkpoint_ns = ''
)
SELECT 1 FROM step WHERE number > (SELECT number FROM step ORDER BY checkpoint_id DESC LIMIT 1) LIMIT 1
"""
DELETE = "DELETE FROM thread WHERE thread_id = %s"
DELETE_CHECKPOINTS: tuple[LiteralString, ...] = (
    "DELETE FROM checkpoints WHERE thread_id = %s",
    "DELETE FROM checkpoint_blobs WHERE thread_id = %s",
    "DELETE FROM checkpoint_writes WHERE thread_id = %s",
    "DELETE FROM replaced_write WHERE thread_id = %s",
)

# What a search can ask for: the condition that each filter adds.
CONDITIONS: Mapping[str, LiteralString] = {
    "metadata": "metadata @> %(metadata)s",
    "values": '"values" @> %(values)s',
    "ids": "thread_id = ANY(%(ids)s)",
    "status": "status = %(status)s",
    "only": SHOWN,
}
ORDERS: Mapping[SortBy, LiteralString] = {
    "thread_id": "thread_id",
    "status": "status",
    "created_at": "created_at",
    "updated_at": "updated_at",
    "state_updated_at": "state_updated_at",
}
SEARCHED = Searched("thread", "thread_id", Thread, CONDITIONS, always="NOT hidden")


async def find(
    conn: Connection, thread_id: UUID, *, hidden: bool = False, visible_to: Filter | None = None
) -> Thread | None:
    """Read a thread as `get` does, but for its values: they may be large."""
    return await _one(conn, FIND if hidden else FIND_VISIBLE, {"thread": thread_id, "only": shown(visible_to)})


async def get(
    conn: Connection, thread_id: UUID, *, hidden: bool = False, visible_to: Filter | None = None
) -> Thread | None:
    """Read a thread; one of an ended stateless run only if `hidden`."""
    return await _one(conn, GET if hidden else GET_VISIBLE, {"thread": thread_id, "only": shown(visible_to)})


async def lock(
    conn: Connection, thread_id: UUID, *, hidden: bool = False, visible_to: Filter | None = None
) -> Thread | None:
    """Read a thread that the caller's transaction is about to change, but for its values.

    One of an ended stateless run only if `hidden`.
    """
    return await _one(conn, LOCK if hidden else LOCK_VISIBLE, {"thread": thread_id, "only": shown(visible_to)})


async def lock_idle(conn: Connection, thread_id: UUID, *, visible_to: Filter | None = None) -> Thread:
    """Lock a thread as `lock` does, so that no run is admitted until the caller's transaction has ended.

    Raises:
        NotFound: there is no such thread.
        ThreadBusy: a run of it is in flight.
    """
    return await _idle(conn, await lock(conn, thread_id, visible_to=visible_to), thread_id)


async def find_idle(conn: Connection, thread_id: UUID, *, visible_to: Filter | None = None) -> Thread:
    """Read a thread that may be busy the next moment, but for its values.

    Raises:
        NotFound: there is no such thread.
        ThreadBusy: a run of it is in flight.
    """
    return await _idle(conn, await find(conn, thread_id, visible_to=visible_to), thread_id)


async def version(conn: Connection, thread_id: UUID) -> str | None:
    """Return what is another whenever a thread, or one of its checkpoints, has been changed; None without a thread."""
    row = await (await conn.execute(VERSION, {"thread": thread_id})).fetchone()
    return row["version"] if row else None


async def insert(
    conn: Connection, thread_id: UUID, *, metadata: JsonObject, holder: str | None = None
) -> Thread | None:
    """Create a thread, as somebody's; None if the id is taken."""
    return await _one(conn, INSERT, {"thread": thread_id, "metadata": Jsonb(metadata), "holder": holder})


async def patch(
    conn: Connection, thread_id: UUID, *, metadata: JsonObject, visible_to: Filter | None = None
) -> Thread | None:
    """Merge metadata into a thread's, key by key; None if there is no such thread."""
    return await _one(conn, PATCH, {"thread": thread_id, "metadata": Jsonb(metadata), "only": shown(visible_to)})


async def copy(
    conn: Connection,
    source: UUID,
    target: UUID,
    *,
    metadata: JsonObject | None = None,
    hidden: bool = False,
    holder: str | None = None,
) -> Thread | None:
    """Copy a thread's row, as it is while it rests, with other metadata, and as somebody else's, if given.

    None if there is no such thread.
    """
    given = None if metadata is None else Jsonb(metadata)
    args = {"source": source, "target": target, "metadata": given, "hidden": hidden, "holder": holder}
    return await _one(conn, COPY, args)


async def reveal(conn: Connection, thread_id: UUID) -> bool:
    """Let a copy be seen that was hidden until it was whole; False if it is gone."""
    return bool((await conn.execute(REVEAL, (thread_id,))).rowcount)


async def put_state(
    conn: Connection, thread_id: UUID, *, resting: ThreadStatus, values: Any, interrupts: JsonObject
) -> Thread | None:
    """Show in a thread's row the state that was written by somebody else than a run."""
    args = {
        "thread": thread_id,
        "resting": resting,
        "values": None if values is None else sealed(values),
        "interrupts": sealed(interrupts),
    }
    return await _one(conn, PUT_STATE, args)


async def search(
    conn: Connection,
    filters: Mapping[str, Any],
    *,
    limit: int,
    offset: int,
    sort_by: SortBy = "updated_at",
    descending: bool = True,
    with_values: bool = True,
) -> list[Thread]:
    """Find threads. `filters` are named as in `CONDITIONS`; those that are None do not count."""
    return await SEARCHED.find(
        conn,
        filters,
        columns=COLUMNS if with_values else COLUMNS_WITHOUT_VALUES,
        order=ORDERS[sort_by],
        descending=descending,
        limit=limit,
        offset=offset,
    )


async def count(conn: Connection, filters: Mapping[str, Any], *, at_most: int | None = None) -> int:
    """Count the threads that `search` would find without a limit, stopping at `at_most`."""
    return await SEARCHED.count(conn, filters, at_most=at_most)


async def turns(conn: Connection, thread_ids: Collection[UUID]) -> dict[UUID, datetime | None]:
    """Return, by thread, when the last run started whose end it shows."""
    rows = await (await conn.execute(TURNS, (list(thread_ids),))).fetchall()
    return {row["thread_id"]: row["ended_started_at"] for row in rows}


async def has_checkpoint(conn: Connection, thread_id: UUID, checkpoint_id: str) -> bool:
    """Whether a thread's root graph has a checkpoint."""
    return (await conn.execute(HAS_CHECKPOINT, (str(thread_id), checkpoint_id))).rowcount > 0


async def went_back(conn: Connection, thread_id: UUID) -> bool:
    """Whether a thread has had checkpoints of later steps than its newest: one that came after an earlier one."""
    return (await conn.execute(WENT_BACK, (str(thread_id),))).rowcount > 0


async def delete(conn: Connection, thread_id: UUID) -> bool:
    """Delete a thread with its runs and checkpoints; say whether it was there. The caller holds a transaction."""
    gone = await conn.execute(DELETE, (thread_id,))
    for query in DELETE_CHECKPOINTS:
        await conn.execute(query, (str(thread_id),))
    return gone.rowcount == 1


async def _one(conn: Connection, query: LiteralString, args: Any) -> Thread | None:
    async with conn.cursor(row_factory=class_row(Thread)) as cur:
        return await (await cur.execute(query, args)).fetchone()


async def _idle(conn: Connection, thread: Thread | None, thread_id: UUID) -> Thread:
    if thread is None:
        raise NotFound(f"Thread with ID {thread_id} not found")
    if await (await conn.execute(BUSY, (thread_id,))).fetchone():
        raise ThreadBusy("A run of the thread is in flight: wait for it or cancel it.")
    return thread
