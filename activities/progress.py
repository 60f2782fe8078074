"""Whether the nodes of a graph have come to their ends, by what LangGraph says of them.

LangGraph takes a superstep for done although a task of it was cancelled by somebody else, and goes on without what that task
would have written or where its edges would have led.
"""

import asyncio
import concurrent.futures
from typing import Any

from durathread.errors import Unfinished

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

    def chunk(self, mode: str, data: Any) -> None:
        """Take what LangGraph yielded of the root graph."""
        if mode == "checkpoints":
            self._checkpoint_id = data["config"]["configurable"].get("checkpoint_id")
            self._tasks = frozenset(task["id"] for task in data["tasks"])
        elif mode == "tasks" and data.get("id") in self._tasks and isinstance(data.get("error"), CANCELLED):
            self.unfinished = Unfinished(
                f"{data['name']}, which follows checkpoint {self._checkpoint_id}, was cancelled."
            )
