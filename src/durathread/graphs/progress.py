"""Whether the nodes of a graph have come to their ends, by what LangGraph says of them.

LangGraph takes a superstep for done although a task of it was cancelled by somebody else, and goes on without what that task
would have written or where its edges would have led.
"""

import asyncio
import concurrent.futures
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from langgraph.constants import START

from durathread.errors import Unfinished
from durathread.workflows.messages import Ran

# What is told of the nodes of a superstep: characters; and of supersteps.
WIDTH = 200
MOST = 200

CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError)


class Progress:
    """Follows the supersteps of a root graph."""

    def __init__(self) -> None:
        """Begin before the first checkpoint."""
        # Set once a node was cancelled. A graph that ends without an exception has gone on without it.
        self.unfinished: Unfinished | None = None
        self._checkpoint_id: str | None = None
        # Not those that other tasks call: what becomes of them is their callers' business.
        self._tasks: frozenset[str] = frozenset()
        # LangGraph's number of the newest checkpoint.
        self.at: int | None = None
        self._nodes: Sequence[str] = ()
        self._began: float | None = None
        self._ran: list[Ran] = []

    def chunk(self, mode: str, data: Any) -> None:
        """Take what LangGraph yielded of the root graph."""
        if mode == "checkpoints":
            self._close()
            self._nodes = [name for name in data["next"] if name != START]
            self.at = data["metadata"].get("step")
            self._checkpoint_id = data["config"]["configurable"].get("checkpoint_id")
            self._tasks = frozenset(task["id"] for task in data["tasks"])
        elif mode == "tasks" and data.get("id") in self._tasks:
            if self._began is None:
                self._began = time.monotonic()
            if isinstance(data.get("error"), CANCELLED):
                self.unfinished = Unfinished(
                    f"{data['name']}, which follows checkpoint {self._checkpoint_id}, was cancelled."
                )

    def ran(self) -> list[Ran]:
        """List the supersteps that were begun, with the times that they took."""
        self._close()
        if len(self._ran) <= MOST:
            return self._ran
        rest = self._ran[MOST:]
        return [*self._ran[:MOST], Ran(f"… and {len(rest)} more", sum(each.seconds for each in rest))]

    def _close(self) -> None:
        if self._began is not None and self._nodes:
            self._ran.append(Ran(listed(self._nodes), round(time.monotonic() - self._began, 4)))
        self._began = None


def listed(nodes: Sequence[str]) -> str:
    """Name nodes that run side by side."""
    counted = Counter(nodes)
    return ", ".join(name if count == 1 else f"{name} × {count}" for name, count in counted.items())[:WIDTH]
