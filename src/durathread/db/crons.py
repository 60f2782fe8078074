"""Crons: what reads and changes their rows, and the record of their firings."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, LiteralString
from uuid import UUID

from psycopg.errors import ForeignKeyViolation
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from durathread.db import quotas, stored
from durathread.db.filters import SHOWN, Filter, shown
from durathread.db.pool import Connection
from durathread.db.sealed import sealed
from durathread.db.searches import Searched
from durathread.errors import NotFound
from durathread.records import Allowance, Cron

# How long whoever changes a cron has to publish it before a sweep does.
PUBLISHING = timedelta(seconds=30)


@dataclass(frozen=True)
class Firing:
    """What came of a time at which a cron was due: a run, or the reason why there is none."""

    run_id: UUID | None
    reason: str


SortBy = Literal["cron_id", "assistant_id", "thread_id", "created_at", "updated_at", "next_run_date", "end_time"]

COLUMNS: LiteralString = (
    "cron_id, assistant_id, thread_id, user_id, configurable, stamp, schedule, timezone, end_time, enabled, on_run_completed, payload, "
    "metadata, next_run_date, scheduled, refill_at, created_at, updated_at"
)
GET: LiteralString = f"SELECT {COLUMNS} FROM cron WHERE cron_id = %(cron)s AND {SHOWN}"
LOCK: LiteralString = f"{GET} FOR UPDATE"
INSERT: LiteralString = f"""
INSERT INTO cron (cron_id, assistant_id, thread_id, user_id, configurable, stamp, schedule, timezone, end_time, enabled,
                  on_run_completed, payload, metadata, next_run_date, holder)
VALUES (%(cron_id)s, %(assistant_id)s, %(thread_id)s, %(user_id)s, %(configurable)s, %(stamp)s, %(schedule)s, %(timezone)s, %(end_time)s,
        %(enabled)s, %(on_run_completed)s, %(payload)s, %(metadata)s, %(next_run_date)s, %(holder)s)
RETURNING {COLUMNS}
"""
REVISE: LiteralString = f"""
UPDATE cron SET schedule = %(schedule)s, timezone = %(timezone)s, end_time = %(end_time)s, enabled = %(enabled)s,
    on_run_completed = %(on_run_completed)s, payload = %(payload)s, metadata = %(metadata)s,
    next_run_date = %(next_run_date)s, scheduled = FALSE, updated_at = clock_timestamp()
WHERE cron_id = %(cron_id)s RETURNING {COLUMNS}
"""
# Who has its turn publishes what the row says; if nobody hears of the end, the turn ends by itself.
TAKE_TURN: LiteralString = f"""
UPDATE cron SET publishing_until = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE cron_id = %(cron)s AND (publishing_until IS NULL OR publishing_until < clock_timestamp())
RETURNING publishing_until, {COLUMNS}
"""
# What was changed meanwhile is published by whoever has changed it.
END_TURN = """
UPDATE cron SET publishing_until = NULL,
    scheduled = CASE WHEN %(done)s AND updated_at = %(seen)s THEN TRUE ELSE scheduled END,
    refill_at = CASE WHEN %(done)s AND updated_at = %(seen)s THEN %(refill_at)s ELSE refill_at END
WHERE cron_id = %(cron)s AND publishing_until = %(turn)s
"""
MARK_LOST = "UPDATE cron SET scheduled = FALSE WHERE cron_id = %s AND scheduled"
PUT_NEXT = "UPDATE cron SET next_run_date = %s WHERE cron_id = %s"
DELETE: LiteralString = f"DELETE FROM cron WHERE cron_id = %(cron)s AND {SHOWN}"
OF_THREAD = "SELECT cron_id FROM cron WHERE thread_id = %s"
OF_ASSISTANT = "SELECT cron_id FROM cron WHERE assistant_id = %s"
PAST: LiteralString = f"SELECT {COLUMNS} FROM cron WHERE next_run_date <= %s"
# One that was written just now is being published by whoever wrote it.
BEHIND = "((NOT scheduled AND updated_at < %(since)s) OR refill_at < %(since)s)"
UNPUBLISHED: LiteralString = f"SELECT cron_id FROM cron WHERE {BEHIND}"
PUBLISHED = "SELECT cron_id FROM cron WHERE scheduled AND updated_at < %(since)s"

KNOWN = "SELECT cron_id FROM cron WHERE cron_id = ANY(%s)"

BEGIN_FIRING = "INSERT INTO cron_firing (cron_id, due) VALUES (%s, %s) ON CONFLICT DO NOTHING"
END_FIRING = """
UPDATE cron_firing SET reason = %(reason)s, run_id = %(run)s WHERE cron_id = %(cron)s AND due = %(due)s
"""
FIRING = "SELECT run_id, reason FROM cron_firing WHERE cron_id = %s AND due = %s"
# By then no firing is repeated any more.
FORGET_FIRINGS = "DELETE FROM cron_firing WHERE recorded_at < now() - interval '7 days'"

# What a search can ask for: the condition that each filter adds.
CONDITIONS: Mapping[str, LiteralString] = {
    "metadata": "metadata @> %(metadata)s",
    "assistant_id": "assistant_id = %(assistant_id)s",
    "thread_id": "thread_id = %(thread_id)s",
    "enabled": "enabled = %(enabled)s",
    "only": SHOWN,
}
ORDERS: Mapping[SortBy, LiteralString] = {
    "cron_id": "cron_id",
    "assistant_id": "assistant_id",
    "thread_id": "thread_id",
    "created_at": "created_at",
    "updated_at": "updated_at",
    "next_run_date": "next_run_date",
    "end_time": "end_time",
}
SEARCHED = Searched("cron", "cron_id", Cron, CONDITIONS, nulls=" NULLS LAST")


async def get(conn: Connection, cron_id: UUID, *, visible_to: Filter | None = None) -> Cron | None:
    """Read a cron."""
    return await _one(conn, GET, {"cron": cron_id, "only": shown(visible_to)})


async def lock(conn: Connection, cron_id: UUID, *, visible_to: Filter | None = None) -> Cron | None:
    """Read a cron that the caller's transaction is about to change, or to publish."""
    return await _one(conn, LOCK, {"cron": cron_id, "only": shown(visible_to)})


async def insert(conn: Connection, cron: Cron, *, allowance: Allowance, room: Allowance) -> Cron:
    """Create a cron, which is not scheduled yet. The caller holds a transaction, and its thread.

    Raises:
        TooMany: its holder has as many as they may have, or has stored as much.
        NotFound: its assistant or thread has gone.
    """
    await quotas.require(conn, allowance, "cron")
    try:
        created = await _one(conn, INSERT, {**_row(cron), "holder": allowance.holder})
    except ForeignKeyViolation as error:
        raise NotFound("Thread or assistant not found.") from error
    assert created is not None
    await stored.require(conn, room)
    return created


async def revise(conn: Connection, cron: Cron) -> Cron | None:
    """Store the fields of a cron that can change; its schedule is then behind. None if the cron has gone."""
    return await _one(conn, REVISE, _row(cron))


async def restore(conn: Connection, cron: Cron, *, changed: Cron) -> None:
    """Make a cron what it was before a change, unless it has been changed again. The caller holds a transaction."""
    current = await lock(conn, cron.cron_id)
    if current and current.updated_at == changed.updated_at:
        await revise(conn, cron)


@dataclass(frozen=True)
class Turn:
    """The turn of one who publishes a cron: what its row says, and until when nobody else does."""

    cron: Cron
    until: datetime


async def take_turn(conn: Connection, cron_id: UUID, *, seconds: float) -> Turn | None:
    """Take the turn at publishing a cron; None while another has it, and if there is no such cron."""
    row = await (await conn.execute(TAKE_TURN, {"cron": cron_id, "seconds": seconds})).fetchone()
    if row is None:
        return None
    until = row.pop("publishing_until")
    return Turn(Cron(**row), until)


async def end_turn(conn: Connection, turn: Turn, *, done: bool, refill_at: datetime | None = None) -> bool:
    """End a turn, and note if it is done that the schedule says what the row says, until it must be told more.

    Return whether it still was ours.
    """
    args = {
        "cron": turn.cron.cron_id,
        "turn": turn.until,
        "done": done,
        "seen": turn.cron.updated_at,
        "refill_at": refill_at,
    }
    return (await conn.execute(END_TURN, args)).rowcount == 1


async def mark_lost(conn: Connection, cron_id: UUID) -> None:
    """Note that the schedule of a cron has gone."""
    await conn.execute(MARK_LOST, (cron_id,))


async def put_next(conn: Connection, cron_id: UUID, next_run_date: datetime | None) -> None:
    """Note when a cron is due next."""
    await conn.execute(PUT_NEXT, (next_run_date, cron_id))


async def delete(conn: Connection, cron_id: UUID, *, visible_to: Filter | None = None) -> bool:
    """Delete a cron; say whether it was there."""
    return (await conn.execute(DELETE, {"cron": cron_id, "only": shown(visible_to)})).rowcount == 1


async def of_thread(conn: Connection, thread_id: UUID) -> list[UUID]:
    """Name the crons that go with a thread when it is deleted."""
    return await _ids(conn, OF_THREAD, (thread_id,))


async def of_assistant(conn: Connection, assistant_id: UUID) -> list[UUID]:
    """Name the crons that go with an assistant when it is deleted."""
    return await _ids(conn, OF_ASSISTANT, (assistant_id,))


async def past(conn: Connection, now: datetime) -> list[Cron]:
    """Find the crons that were due and have not fired."""
    async with conn.cursor(row_factory=class_row(Cron)) as cur:
        return await (await cur.execute(PAST, (now,))).fetchall()


async def unpublished(conn: Connection, *, since: datetime) -> list[UUID]:
    """Name the crons whose schedule has been behind since then."""
    return await _ids(conn, UNPUBLISHED, {"since": since})


async def published(conn: Connection, *, since: datetime) -> list[UUID]:
    """Name the crons that have had a schedule since then."""
    return await _ids(conn, PUBLISHED, {"since": since})


async def known(conn: Connection, cron_ids: Collection[UUID]) -> set[UUID]:
    """Return those that are crons."""
    return set(await _ids(conn, KNOWN, (list(cron_ids),)))


async def search(
    conn: Connection,
    filters: Mapping[str, Any],
    *,
    limit: int,
    offset: int,
    sort_by: SortBy = "created_at",
    descending: bool = True,
) -> list[Cron]:
    """Find crons. `filters` are named as in `CONDITIONS`; those that are None do not count."""
    return await SEARCHED.find(
        conn,
        filters,
        columns=COLUMNS,
        order=ORDERS[sort_by],
        descending=descending,
        limit=limit,
        offset=offset,
    )


async def count(conn: Connection, filters: Mapping[str, Any], *, at_most: int | None = None) -> int:
    """Count the crons that `search` would find without a limit, stopping at `at_most`."""
    return await SEARCHED.count(conn, filters, at_most=at_most)


async def begin_firing(conn: Connection, cron_id: UUID, due: datetime) -> bool:
    """Take a firing on; False if that has been done, once its transaction has ended. The caller holds a transaction."""
    return (await conn.execute(BEGIN_FIRING, (cron_id, due))).rowcount == 1


async def end_firing(conn: Connection, cron_id: UUID, due: datetime, *, reason: str, run_id: UUID | None) -> None:
    """Record what came of a firing: a run, or the reason why there is none."""
    await conn.execute(END_FIRING, {"cron": cron_id, "due": due, "reason": reason, "run": run_id})


async def firing(conn: Connection, cron_id: UUID, due: datetime) -> Firing | None:
    """Read what came of a firing; None if nobody has taken it on."""
    async with conn.cursor(row_factory=class_row(Firing)) as cur:
        return await (await cur.execute(FIRING, (cron_id, due))).fetchone()


async def forget_firings(conn: Connection) -> None:
    """Delete the record of old firings."""
    await conn.execute(FORGET_FIRINGS)


def _row(cron: Cron) -> dict[str, Any]:
    jsons = {name: Jsonb(getattr(cron, name)) for name in ("stamp", "metadata")}
    # Webhooks' secrets, and headers that are passed on, are in the configurable.
    return {**vars(cron), **jsons, "payload": sealed(cron.payload), "configurable": sealed(cron.configurable)}


async def _ids(conn: Connection, query: LiteralString, args: Any) -> list[UUID]:
    return [row["cron_id"] for row in await (await conn.execute(query, args)).fetchall()]


async def _one(conn: Connection, query: LiteralString, args: Any) -> Cron | None:
    async with conn.cursor(row_factory=class_row(Cron)) as cur:
        return await (await cur.execute(query, args)).fetchone()
