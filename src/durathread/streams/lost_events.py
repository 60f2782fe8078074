"""Where a stream has lost events: its oldest entries go when it is too long, and Valkey may lose all of them."""

from collections.abc import Callable

import orjson

from durathread.streams.events import END, GAP, START, Event
from durathread.streams.frames import is_beginning

# The largest second half of an id.
LAST = 2**64 - 1

# Says of the id after which somebody goes on, and of the oldest entry, which is newer, whether nothing lies between.
Whole = Callable[[str, Event], bool]


def is_whole_run(after: str, oldest: Event) -> bool:
    """Look at the events of a run. A run that never began consists of its end."""
    if oldest.name == "metadata":
        return orjson.loads(oldest.data).get("attempt") == 1
    return after == START and oldest.name in (END, "error")


def has_all_marks(after: str, oldest: Event) -> bool:
    """Look at the marks of a thread: who comes anew begins where they begin."""
    return after == START


def has_all_frames(after: str, oldest: Event) -> bool:
    """Look at the protocol's events of a thread, which are numbered. Who comes anew begins with a run."""
    if after == START:
        return is_beginning(oldest)
    return _number(oldest.event_id) <= _number(after) + 1


def gap_before(event: Event) -> Event:
    """Build what stands before an entry where others are missing: its id is just below."""
    milliseconds, _, sequence = event.event_id.partition("-")
    below = f"{milliseconds}-{int(sequence) - 1}" if int(sequence) else f"{int(milliseconds) - 1}-{LAST}"
    return Event(below, GAP, b"{}")


def _number(event_id: str) -> int:
    return int(event_id.partition("-")[0])
