"""Which writes of a task count: those of one that came to its end.

LangGraph takes a task for done once any output of it is stored. It stores what a task has written so far also when the task
fails or is cancelled, with the error beside it: a node that is done, but not the conditional edge after it. The next attempt
then never runs that edge, and the rest of the graph with it. So the output of such a task is neither stored nor believed, and
the task is run again.
"""

import asyncio
import concurrent.futures
from collections.abc import Sequence
from typing import Any

from langgraph.checkpoint.base import PendingWrite
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME

# Private to LangGraph: marks a task whose failure an error handler has taken over. What that task wrote counts, and it is not
# run again.
HANDLED = "__error_source_node__"
# Say what happened to a task, not what it came to.
CONTROL = frozenset((ERROR, HANDLED, INTERRUPT, RESUME))

Writes = Sequence[tuple[str, Any]]


def is_cut(writes: Writes) -> bool:
    """Say whether a task was cancelled."""
    cancelled = (asyncio.CancelledError, concurrent.futures.CancelledError)
    return any(channel == ERROR and isinstance(value, cancelled) for channel, value in writes)


def storable(writes: Writes) -> Writes:
    """Leave out what is not to be stored: all that a cancelled task wrote, and the output of a failed one."""
    if is_cut(writes):
        return []
    channels = {channel for channel, _ in writes}
    if ERROR not in channels or HANDLED in channels:
        return writes
    return [write for write in writes if write[0] in CONTROL]


def finished(pending: Sequence[PendingWrite]) -> list[PendingWrite]:
    """Leave out the output of tasks that failed or were cancelled: earlier versions stored it."""
    failed = {task for task, channel, _ in pending if channel == ERROR}
    failed -= {task for task, channel, _ in pending if channel == HANDLED}
    return [write for write in pending if write[0] not in failed or write[1] in CONTROL]
