"""Threads: what reads and changes their rows."""

from collections.abc import Collection
from typing import LiteralString
from uuid import UUID

from psycopg.rows import class_row

from durathread.records import Thread
from durathread.store.pool import Connection

COLUMNS: LiteralString = (
    'thread_id, status, resting, metadata, config, "values", interrupts, error, ended_seq, ended_run_id, temporary, hidden, '
    "created_at, updated_at, state_updated_at"
)
LOCK: LiteralString = f"SELECT {COLUMNS} FROM thread WHERE thread_id = %s FOR UPDATE"
GET: LiteralString = f"SELECT {COLUMNS} FROM thread WHERE thread_id = %s"
GET_VISIBLE: LiteralString = f"{GET} AND NOT hidden"
ENDED_SEQS = "SELECT thread_id, ended_seq FROM thread WHERE thread_id = ANY(%s)"
DELETE = "DELETE FROM thread WHERE thread_id = %s"
DELETE_CHECKPOINTS: tuple[LiteralString, ...] = (
    "DELETE FROM checkpoints WHERE thread_id = %s",
    "DELETE FROM checkpoint_blobs WHERE thread_id = %s",
    "DELETE FROM checkpoint_writes WHERE thread_id = %s",
    "DELETE FROM replaced_write WHERE thread_id = %s",
)


async def get(conn: Connection, thread_id: UUID, *, hidden: bool = False) -> Thread | None:
    """Read a thread; one of an ended stateless run only if `hidden`."""
    async with conn.cursor(row_factory=class_row(Thread)) as cur:
        return await (await cur.execute(GET if hidden else GET_VISIBLE, (thread_id,))).fetchone()


async def ended_seqs(conn: Connection, thread_ids: Collection[UUID]) -> dict[UUID, int]:
    """Return, by thread, the admission number of the last run whose end it shows."""
    rows = await (await conn.execute(ENDED_SEQS, (list(thread_ids),))).fetchall()
    return {row["thread_id"]: row["ended_seq"] for row in rows}


async def delete(conn: Connection, thread_id: UUID) -> bool:
    """Delete a thread with its runs and checkpoints; say whether it was there. The caller holds a transaction."""
    gone = await conn.execute(DELETE, (thread_id,))
    for query in DELETE_CHECKPOINTS:
        await conn.execute(query, (str(thread_id),))
    return gone.rowcount == 1
