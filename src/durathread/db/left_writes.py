"""What a run has left on its last checkpoint, without what later runs of the thread have written onto the same."""

from typing import Any, LiteralString
from uuid import UUID

from langgraph.checkpoint.base import PendingWrite

from durathread.db.pool import Connection
from durathread.db.serde import serializer
from durathread.db.task_writes import finished

# What a run has replaced is kept until it ends. So a question that a later run has replaced by its own may be lost: of a run
# that rested, the later one is taken for it, which the same task asks.
LEFT: LiteralString = """
WITH own AS (
    SELECT thread_id, started_at, status FROM run WHERE run_id = %(run)s
), later AS (
    SELECT r.run_id::text AS run_id FROM run r, own WHERE r.thread_id = own.thread_id AND r.started_at > own.started_at
), written AS (
    SELECT w.task_id, w.idx, w.channel, w.type, w.blob,
           coalesce(w.run_id IN (SELECT run_id FROM later), FALSE) AS late
    FROM checkpoint_writes w
    WHERE w.thread_id = %(thread)s AND w.checkpoint_ns = '' AND w.checkpoint_id = %(checkpoint)s
    UNION ALL
    SELECT w.task_id, w.idx, w.channel, w.type, w.blob,
           coalesce(w.run_id IN (SELECT run_id FROM later), FALSE) AS late
    FROM replaced_write w
    WHERE w.thread_id = %(thread)s AND w.checkpoint_ns = '' AND w.checkpoint_id = %(checkpoint)s
      AND w.replaced_by IN (SELECT run_id FROM later)
)
SELECT DISTINCT ON (task_id, idx) task_id, channel, type, blob FROM written
WHERE NOT late OR (channel = '__interrupt__' AND (SELECT status FROM own) = 'success')
ORDER BY task_id, idx, late
"""


async def left_writes(conn: Connection, run_id: UUID, *, thread_id: UUID, checkpoint_id: str) -> list[PendingWrite]:
    """Read what the tasks after a checkpoint had written when a run ended there."""
    args: dict[str, Any] = {"run": run_id, "thread": str(thread_id), "checkpoint": checkpoint_id}
    rows = await (await conn.execute(LEFT, args)).fetchall()
    return finished(
        [(row["task_id"], row["channel"], serializer().loads_typed((row["type"], row["blob"]))) for row in rows]
    )
