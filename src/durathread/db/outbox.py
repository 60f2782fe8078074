"""The outbox: what is owed to the webhooks of runs that have ended. Triggers fill it; see the migration."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg.rows import class_row

from durathread.db.pool import Connection
from durathread.db.sealed import sealed
from durathread.records import JsonObject

ADDRESSED = "run_id, thread_id, assistant_id, graph_id, url, status, created_at"
GET: LiteralString = (
    f'SELECT {ADDRESSED}, run, error, checkpoint_id, known, "values", interrupts FROM outbox WHERE run_id = %s'
)
GET_ADDRESSED: LiteralString = f"SELECT {ADDRESSED} FROM outbox WHERE run_id = %s"
IS_LEFT = "created_at < now() - make_interval(secs => %(age)s)"
LEFT: LiteralString = f"""
SELECT {ADDRESSED} FROM outbox
WHERE {IS_LEFT} AND (created_at, run_id) > (%(moment)s, %(after)s)
ORDER BY created_at, run_id LIMIT %(limit)s
"""
FILL = """
UPDATE outbox SET known = TRUE, "values" = %(values)s, interrupts = %(interrupts)s WHERE run_id = %(run)s AND NOT known
"""
DISCARD = "DELETE FROM outbox WHERE run_id = %s"


@dataclass(frozen=True)
class Addressed:
    """To whom something is owed, and about which run."""

    run_id: UUID
    thread_id: UUID
    assistant_id: UUID
    graph_id: str
    url: str
    status: str
    created_at: datetime


@dataclass(frozen=True)
class Owed(Addressed):
    """All that is owed. Without `known`, the values are to be read from the checkpoint."""

    run: JsonObject
    error: JsonObject | None
    checkpoint_id: str | None
    known: bool
    values: Any
    interrupts: JsonObject | None


async def get(conn: Connection, run_id: UUID) -> Owed | None:
    """Read what is owed for a run; None if nothing is, any more."""
    async with conn.cursor(row_factory=class_row(Owed)) as cur:
        return await (await cur.execute(GET, (run_id,))).fetchone()


async def address(conn: Connection, run_id: UUID) -> Addressed | None:
    """Read to whom something is owed for a run; None if nothing is."""
    async with conn.cursor(row_factory=class_row(Addressed)) as cur:
        return await (await cur.execute(GET_ADDRESSED, (run_id,))).fetchone()


async def left(conn: Connection, *, age: float, limit: int, after: Addressed | None = None) -> list[Addressed]:
    """Find what has been owed for `age` seconds, oldest first, starting after `after`."""
    moment, last = (after.created_at, after.run_id) if after else (datetime.min, UUID(int=0))
    async with conn.cursor(row_factory=class_row(Addressed)) as cur:
        args = {"age": age, "limit": limit, "moment": moment, "after": last}
        return await (await cur.execute(LEFT, args)).fetchall()


async def fill(conn: Connection, run_id: UUID, *, values: Any, interrupts: JsonObject | None) -> None:
    """Keep the values that a run has left, so that every attempt sends the same."""
    args = {"run": run_id, "values": sealed(values), "interrupts": sealed(interrupts or {})}
    await conn.execute(FILL, args)


async def discard(conn: Connection, run_id: UUID) -> None:
    """Forget what was owed for a run."""
    await conn.execute(DISCARD, (run_id,))
