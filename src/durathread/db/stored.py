"""How many bytes somebody has stored, and whether there is room for more.

Each write of a connection that counts notes what it adds, or takes away, in the same transaction: see the migration. A total
is what was measured last and what was noted since. Both are read by one statement, and so is what is measured: whatever
others commit meanwhile is in all of it or in none. So a total is wrong only if somebody has written who does not count, and
only until the holder is measured again.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import LiteralString
from uuid import UUID

from langgraph.store.base import PutOp
from psycopg.rows import DictRow

from durathread.db.filters import SHOWN, Filter, shown
from durathread.db.pool import Connection, Pool, connection, transaction
from durathread.db.quotas import TURN
from durathread.errors import TooMany
from durathread.records import Allowance

# In seconds: a total that was measured so long ago is measured again, and by whoever is told that there is no room.
OLD, OLD_IF_FULL = 6 * 3600, 300
# More notes than these are added up by whoever comes across them.
MOST_NOTES = 500
# When to try again, in seconds: nobody but its holder makes room.
AFTER = 60

TOTAL = """
SELECT (s.bytes + coalesce(n.bytes, 0))::bigint AS bytes, coalesce(n.notes, 0) AS notes,
       extract(epoch FROM clock_timestamp() - s.measured_at)::float8 AS age
FROM stored s CROSS JOIN (SELECT sum(c.bytes) AS bytes, count(*) AS notes FROM stored_change c WHERE c.holder = %(holder)s) n
WHERE s.holder = %(holder)s
"""
MEASURE = """
INSERT INTO stored (holder, bytes)
SELECT %(holder)s, measured_bytes(%(holder)s)
       - (SELECT coalesce(sum(c.bytes), 0) FROM stored_change c WHERE c.holder = %(holder)s)
ON CONFLICT (holder) DO UPDATE SET bytes = EXCLUDED.bytes, measured_at = clock_timestamp()
"""
ADD_UP = """
WITH noted AS (DELETE FROM stored_change WHERE holder = %(holder)s RETURNING bytes)
UPDATE stored SET bytes = bytes + (SELECT coalesce(sum(n.bytes), 0) FROM noted n) WHERE holder = %(holder)s
"""
# Others may have written meanwhile that do not count: those of before an update, or of before there was a quota.
DOUBT = "UPDATE stored SET measured_at = 'epoch'"
HOLDER_OF_RUN = "SELECT coalesce(holder, '') AS holder FROM run WHERE run_id = %s"
HOLDER_OF_ASSISTANT = "SELECT holder FROM assistant WHERE assistant_id = %s"
HOLDER_OF_CRON = "SELECT holder FROM cron WHERE cron_id = %s"
LOCK_HOLDER: LiteralString = f"SELECT holder FROM thread WHERE thread_id = %(thread)s AND {SHOWN} FOR UPDATE"
# Whose a thread is, says whoever creates it; nobody's is whose first run it is then. The key that says whose runs are comes
# with runs only, and so does not stand behind whoever made a thread for them.
ADOPT = """
UPDATE thread t SET holder = %(holder)s
WHERE t.thread_id = %(thread)s AND t.holder IS DISTINCT FROM %(holder)s AND (
    coalesce(t.holder, '') = ''
    OR (%(by_key)s AND NOT EXISTS (SELECT 1 FROM run r WHERE r.thread_id = t.thread_id))
)
"""
MARK_ITEM = """
UPDATE store SET durathread_holder = %(holder)s
WHERE prefix = %(prefix)s AND key = %(key)s AND durathread_holder IS DISTINCT FROM %(holder)s
"""


@asynccontextmanager
async def room(conn: Connection, allowance: Allowance) -> AsyncGenerator[None]:
    """Let the block write, unless its holder then has more than they may and more than before: who makes room may do so.

    Within the caller's transaction, which has locked the thread or assistant that it is about: the turn is waited for after
    those.

    Raises:
        TooMany: there is no room for it.
    """
    if allowance.most is None:
        yield
        return
    before = await _total_in_turn(conn, allowance)
    yield
    _require(await _total(conn, allowance), allowance, before=before)


async def require(conn: Connection, allowance: Allowance) -> None:
    """Make sure that there is room for what the caller's transaction has written.

    Raises:
        TooMany: there is none.
    """
    if allowance.most is not None:
        _require(await _total_in_turn(conn, allowance), allowance)


async def look(pool: Pool, allowance: Allowance, *, creates: bool) -> None:
    """Before anything is done: see that the total is right, and refuse at once whoever has no room to create anything.

    What a request finds out is forgotten with what it is refused; this is not.

    Raises:
        TooMany: there is no room.
    """
    if allowance.most is None:
        return
    async with connection(pool) as conn:
        found = await _found(conn, allowance.holder)
    if found is None or found["notes"] > MOST_NOTES or _is_old(found, allowance.most):
        async with _turn(pool, allowance.holder) as conn:
            # Others may have measured while this one waited for its turn.
            found = await _found(conn, allowance.holder)
            total = await _put_right(conn, allowance.holder, measure=found is None or _is_old(found, allowance.most))
    else:
        total = found["bytes"]
    if total > allowance.most and creates:
        raise _refusal(allowance)


async def put_right(pool: Pool, holder: str, *, measure: bool) -> int:
    """Add up what was noted of a holder, or measure all that they have; return the total."""
    async with _turn(pool, holder) as conn:
        return await _put_right(conn, holder, measure=measure)


async def doubt(conn: Connection) -> None:
    """Have everybody measured again when they are asked about next."""
    await conn.execute(DOUBT)


async def holder_of_run(conn: Connection, run_id: UUID) -> str:
    """Return whose a run is; nobody's if it is gone."""
    row = await (await conn.execute(HOLDER_OF_RUN, (run_id,))).fetchone()
    return row["holder"] if row else ""


async def of_thread(
    conn: Connection, thread_id: UUID, allowance: Allowance, *, by_key: bool = False, visible_to: Filter | None = None
) -> Allowance:
    """Lock a thread, and return what its holder may store: whoever writes to it, it is theirs.

    Args:
        conn: with the caller's transaction.
        thread_id: the thread.
        allowance: of who writes. A thread that is nobody's is theirs from now on.
        by_key: whether they are named by the key of a run.
        visible_to: lets the thread through; to whoever may not change it, it does not go over.
    """
    if allowance.most is None:
        return allowance
    args = {"thread": thread_id, "holder": allowance.holder, "by_key": by_key, "only": shown(visible_to)}
    row = await (await conn.execute(LOCK_HOLDER, args)).fetchone()
    if row is None or row["holder"] == allowance.holder:
        return allowance
    if (await conn.execute(ADOPT, args)).rowcount:
        return allowance
    return replace(allowance, holder=row["holder"] or "")


async def of_assistant(conn: Connection, assistant_id: UUID, allowance: Allowance) -> Allowance:
    """Return what the holder of an assistant may store."""
    return await _of(conn, HOLDER_OF_ASSISTANT, assistant_id, allowance)


async def of_cron(conn: Connection, cron_id: UUID, allowance: Allowance) -> Allowance:
    """Return what the holder of a cron may store."""
    return await _of(conn, HOLDER_OF_CRON, cron_id, allowance)


async def mark_item(conn: Connection, op: PutOp, *, holder: str) -> None:
    """Say whose an item of the store is: its last writer's."""
    await conn.execute(MARK_ITEM, {"prefix": ".".join(op.namespace), "key": op.key, "holder": holder})


async def _of(conn: Connection, query: LiteralString, named: UUID, allowance: Allowance) -> Allowance:
    if allowance.most is None:
        return allowance
    row = await (await conn.execute(query, (named,))).fetchone()
    # What is nobody's is not counted.
    return replace(allowance, holder=row["holder"]) if row and row["holder"] is not None else Allowance()


@asynccontextmanager
async def _turn(pool: Pool, holder: str) -> AsyncGenerator[Connection]:
    async with transaction(pool) as conn:
        await conn.execute(TURN, {"kind": "bytes", "holder": holder})
        yield conn


async def _put_right(conn: Connection, holder: str, *, measure: bool) -> int:
    args = {"holder": holder}
    if measure:
        await conn.execute(MEASURE, args)
    await conn.execute(ADD_UP, args)
    [row] = await (await conn.execute(TOTAL, args)).fetchall()
    return row["bytes"]


async def _total_in_turn(conn: Connection, allowance: Allowance) -> int:
    await conn.execute(TURN, {"kind": "bytes", "holder": allowance.holder})
    # A statement of its own: it sees what was committed while this one waited for its turn.
    found = await _found(conn, allowance.holder)
    if found is None or found["notes"] > MOST_NOTES:
        # Nobody may ever ask about a holder whose runs come by crons or signals only.
        return await _put_right(conn, allowance.holder, measure=found is None)
    return found["bytes"]


async def _total(conn: Connection, allowance: Allowance) -> int:
    [row] = await (await conn.execute(TOTAL, {"holder": allowance.holder})).fetchall()
    return row["bytes"]


async def _found(conn: Connection, holder: str) -> DictRow | None:
    return await (await conn.execute(TOTAL, {"holder": holder})).fetchone()


def _is_old(found: DictRow, most: int) -> bool:
    return found["age"] > (OLD_IF_FULL if found["bytes"] > most else OLD)


def _require(total: int, allowance: Allowance, *, before: int = -1) -> None:
    if allowance.most is not None and total > max(allowance.most, before):
        raise _refusal(allowance)


def _refusal(allowance: Allowance) -> TooMany:
    return TooMany(
        f"No more than {allowance.most} stored bytes are allowed: delete something first.", retry_after=AFTER
    )
