"""The lifetimes of threads, and the threads that have outlived theirs."""

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from psycopg.rows import class_row

from durathread.db.pool import Connection
from durathread.db.threads import IN_FLIGHT
from durathread.records import Lifetime, LifetimeStrategy

GRANT = "UPDATE thread SET ttl_strategy = %(strategy)s, ttl_minutes = %(minutes)s WHERE thread_id = %(thread)s"
GET = """
SELECT ttl_strategy AS strategy, ttl_minutes, expires_at AT TIME ZONE 'UTC' AS expires_at FROM thread
WHERE thread_id = %s AND ttl_minutes IS NOT NULL
"""
PAST: LiteralString = f"""
expires_at < now() AT TIME ZONE 'UTC' AND NOT hidden AND NOT {IN_FLIGHT}
"""
EXPIRED: LiteralString = f"SELECT thread_id FROM thread WHERE {PAST} ORDER BY expires_at LIMIT %s"
# A copy that was not whole yet when its API died.
FORSAKEN = "hidden AND NOT temporary AND created_at < now() - interval '1 hour'"
FIND_FORSAKEN: LiteralString = f"SELECT thread_id FROM thread WHERE {FORSAKEN} LIMIT %s"
LOCK_FORSAKEN: LiteralString = f"SELECT 1 FROM thread WHERE thread_id = %s AND {FORSAKEN} FOR UPDATE"
LOCK = "SELECT 1 FROM thread WHERE thread_id = %s FOR UPDATE"
# A statement of its own after the lock: it sees the run for which the lock was waited.
STRATEGY: LiteralString = f"SELECT ttl_strategy FROM thread WHERE thread_id = %s AND {PAST}"
RENEW = "UPDATE thread SET pruned_at = now() WHERE thread_id = %s"


@dataclass(frozen=True)
class Ttl:
    """The lifetime of a thread as clients see it."""

    strategy: LifetimeStrategy
    ttl_minutes: float
    expires_at: datetime


async def grant(conn: Connection, thread_id: UUID, lifetime: Lifetime | None) -> None:
    """Give a thread a lifetime; None to let it live."""
    minutes, strategy = (lifetime.minutes, lifetime.strategy) if lifetime else (None, None)
    await conn.execute(GRANT, {"thread": thread_id, "minutes": minutes, "strategy": strategy})


async def get(conn: Connection, thread_id: UUID) -> Ttl | None:
    """Read a thread's lifetime; None if it has none."""
    async with conn.cursor(row_factory=class_row(Ttl)) as cur:
        return await (await cur.execute(GET, (thread_id,))).fetchone()


async def expired(conn: Connection, *, limit: int) -> list[UUID]:
    """Find threads that have outlived their lifetime and on which nothing works, the longest dead first."""
    return [row["thread_id"] for row in await (await conn.execute(EXPIRED, (limit,))).fetchall()]


async def lock_expired(conn: Connection, thread_id: UUID) -> LifetimeStrategy | None:
    """Lock a thread, and say what shall become of it; None if it has been touched. The caller holds a transaction."""
    await conn.execute(LOCK, (thread_id,))
    row = await (await conn.execute(STRATEGY, (thread_id,))).fetchone()
    return row["ttl_strategy"] if row else None


async def forsaken(conn: Connection, *, limit: int) -> list[UUID]:
    """Find copies that nobody sees, because who made them died at it."""
    return [row["thread_id"] for row in await (await conn.execute(FIND_FORSAKEN, (limit,))).fetchall()]


async def lock_forsaken(conn: Connection, thread_id: UUID) -> bool:
    """Lock such a copy; False if it is none any more. The caller holds a transaction."""
    return await (await conn.execute(LOCK_FORSAKEN, (thread_id,))).fetchone() is not None


async def renew(conn: Connection, thread_id: UUID) -> None:
    """Let a thread's lifetime begin anew."""
    await conn.execute(RENEW, (thread_id,))
