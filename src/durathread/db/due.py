"""Whether a sweep would find anything, and whether threads have outlived their lifetime.

Only rows decide, so that nobody needs to be woken, and Temporal rests while nothing happens. Whoever is told that something is
due has it to itself until the interval has passed; if it dies, the next one is told.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import LiteralString

from durathread.db import crons, outbox, runs
from durathread.db import expiry as lifetimes
from durathread.db.pool import Connection

# How often crons are compared with their schedules, which somebody may have deleted, in seconds.
COMPARED = 300

CRONS: LiteralString = f"""
EXISTS (SELECT 1 FROM cron WHERE {crons.BEHIND})
OR crons_compared_at < now() - make_interval(secs => %(compared)s) AND EXISTS (SELECT 1 FROM cron)
"""
SWEEP: LiteralString = f"""
WITH due AS (SELECT ({CRONS}) AS crons FROM deployment WHERE swept_at <= now() - make_interval(secs => %(every)s))
UPDATE deployment SET swept_at = now(), crons_compared_at = CASE WHEN due.crons THEN now() ELSE crons_compared_at END
FROM due
WHERE swept_at <= now() - make_interval(secs => %(every)s) AND (
    due.crons
    OR EXISTS (SELECT 1 FROM run WHERE {runs.IS_STRANDED})
    OR EXISTS (SELECT 1 FROM thread t WHERE {runs.IS_UNSETTLED})
    OR EXISTS (SELECT 1 FROM outbox WHERE {outbox.IS_LEFT})
)
RETURNING due.crons
"""
EXPIRY: LiteralString = f"""
UPDATE deployment SET expired_at = now()
WHERE expired_at <= now() - make_interval(secs => %(every)s) AND (
    EXISTS (SELECT 1 FROM thread WHERE {lifetimes.PAST}) OR EXISTS (SELECT 1 FROM thread WHERE {lifetimes.FORSAKEN})
)
"""


@dataclass(frozen=True)
class Due:
    """A sweep that is due: whether crons are to be looked at, too."""

    crons: bool


async def sweep(conn: Connection, *, age: float, every: float) -> Due | None:
    """Take on a sweep if it would find what nobody has touched for `age` seconds, and none has begun for `every` seconds."""
    since = datetime.now(UTC) - crons.PUBLISHING
    args = {"age": age, "every": every, "since": since, "compared": COMPARED}
    row = await (await conn.execute(SWEEP, args)).fetchone()
    return None if row is None else Due(row["crons"])


async def expiry(conn: Connection, *, every: float) -> bool:
    """Take on looking after lifetimes if a thread has outlived its own, and nobody has for `every` seconds."""
    return (await conn.execute(EXPIRY, {"every": every})).rowcount == 1
