"""Refuses to wait where a run would wait for itself: a thread has one run at a time, and the one that waits is it."""

from collections.abc import Sequence
from uuid import UUID

from durathread.api.auth.authorization import Caller, as_uuid
from durathread.db import runs
from durathread.db.pool import Connection
from durathread.errors import Conflict
from durathread.records import Run
from durathread.runs.request import RunCreate

ADVICE = (
    "Give the inner run a thread of its own, or none (thread_id=None); to have it run afterwards, create it without waiting "
    "(runs.create)."
)


async def callers(conn: Connection, caller: Caller, body: RunCreate | None = None) -> list[str]:
    """List the runs that wait for what a request waits for: the one that sends it, and those that wait for that.

    A `RemoteGraph` sends the config of the node that it is called in, with the id of its run.
    """
    asking = caller.run_id or (body and as_uuid(str(body.config.configurable.get("run_id", ""))))
    run = await runs.get(conn, asking) if asking else None
    return [*(run.options.callers or []), str(run.run_id)] if run is not None and run.in_flight else []


async def refuse_circle(conn: Connection, chain: Sequence[str], thread_id: UUID, run: Run | None = None) -> None:
    """Make sure that none of the runs that would wait holds the thread that they wait for.

    Args:
        conn: of the database.
        chain: those that would wait.
        thread_id: where the run is, or will be, that they wait for.
        run: that one, if it is there.

    Raises:
        Conflict: one of them does.
    """
    holding = [str(run_id) for run_id in await runs.in_flight(conn, thread_id)]
    if run is not None:
        holding = holding[: holding.index(str(run.run_id)) + 1] if str(run.run_id) in holding else []
    if circle := [run_id for run_id in chain if run_id in holding]:
        raise Conflict(
            f"Run {circle[-1]} works on thread {thread_id}, and would wait for a run that can begin only when it has ended itself. "
            + ADVICE
        )
