"""How many runs and crons somebody may have. Counted exactly: those of one holder are admitted one after the other."""

from collections.abc import Sequence
from typing import Literal, LiteralString

from durathread.db.pool import Connection
from durathread.errors import TooMany
from durathread.records import Allowance, NewRun

Kind = Literal["run", "cron"]

# Until the end of the transaction. A thread's row is locked before it, and none after it.
TURN = "SELECT pg_advisory_xact_lock(hashtextextended('durathread ' || %(kind)s || ' ' || %(holder)s, 0))"
COUNTS: dict[Kind, LiteralString] = {
    "run": "SELECT count(*) AS n FROM run WHERE holder = %(holder)s AND status IN ('pending', 'running')",
    "cron": "SELECT count(*) AS n FROM cron WHERE holder = %(holder)s",
}
SAID: dict[Kind, str] = {"run": "runs in flight", "cron": "crons"}
# When to try again, in seconds: runs end by themselves, crons do not.
AFTER: dict[Kind, int] = {"run": 5, "cron": 60}


async def take_turns(conn: Connection, runs: Sequence[NewRun]) -> None:
    """Take the turns of all who hold some runs, in one order: those who admit several would wait for each other for good."""
    bytes_of = {("bytes", new.room.holder) for new in runs if new.room.most is not None}
    runs_of = {("run", new.allowance.holder) for new in runs if new.allowance.most is not None}
    for kind, holder in [*sorted(bytes_of), *sorted(runs_of)]:
        await conn.execute(TURN, {"kind": kind, "holder": holder})


async def require(conn: Connection, allowance: Allowance, kind: Kind) -> None:
    """Make sure that one more may be written before the caller's transaction ends.

    Raises:
        TooMany: it may not.
    """
    if allowance.most is None:
        return
    args = {"kind": kind, "holder": allowance.holder}
    await conn.execute(TURN, args)
    # A statement of its own: it sees what was committed while this one waited for its turn.
    [row] = await (await conn.execute(COUNTS[kind], args)).fetchall()
    if row["n"] >= allowance.most:
        raise TooMany(f"No more than {allowance.most} {SAID[kind]} are allowed.", retry_after=AFTER[kind])
