"""Keeps the ids of checkpoints in order: LangGraph makes them of the clock, and takes the greatest for the latest.

Machines' clocks differ. A checkpoint that is made on one whose clock is behind would sort before the one that it follows: it is
stored, and never found. So whoever has read an id mints only later ones, as with Lamport's clocks.

LangGraph has no public way to say so, but its own guard against two ids of the same moment: `uuid6` goes on from the last time
that it has used. That variable is private, and this is the only place that touches it.

Savers are called from several threads, so only one at a time looks at the clock and moves it on. LangGraph itself mints without a
lock: an id that slips through between the two is refused by the saver, and its step repeated.
"""

import threading
from uuid import UUID

from langgraph.checkpoint.base import id as langgraph_ids

uuid6 = langgraph_ids.uuid6

VERSION = 6
# What is further ahead of our clock is no clock's doing: a day, in units of 100 ns.
FURTHEST = 24 * 3600 * 10**7

_following = threading.Lock()


def follow(checkpoint_id: str) -> None:
    """Have all ids that are minted in this process from now on be later than one that was read."""
    read = _time(checkpoint_id)
    with _following:
        now = _time(str(uuid6())) or 0
        if read is not None and now <= read <= now + FURTHEST:
            langgraph_ids._last_v6_timestamp = read  # pyright: ignore[reportPrivateUsage]


def is_before(one: str, other: str) -> bool:
    """Say of two ids that are made of a clock whether the first sorts before the other; of others, nothing can be said."""
    return _time(one) is not None and _time(other) is not None and one < other


def _time(checkpoint_id: str) -> int | None:
    """Read the time of an id, in units of 100 ns; None if it was made otherwise."""
    try:
        found = UUID(checkpoint_id)
    except ValueError:
        return None
    if found.version != VERSION:
        return None
    return (found.time_low << 28) | (found.time_mid << 12) | (found.time_hi_version & 0x0FFF)
