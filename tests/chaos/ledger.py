"""What the clients of a chaos run have asked for and been told: what the verdict is measured against."""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Acknowledged:
    """A run whose creation was answered with its id."""

    run_id: str
    thread_id: str
    strategy: str
    plan: str
    items: tuple[Any, ...]
    asked: float
    kept: bool = True
    webhook: bool = False
    # When its creation was sent, as far as known; `asked` is when that was answered.
    sent: float = 0


@dataclass
class Seen:
    """What one reader saw of a run's stream, over all its connections: ids and names, and marks of `updates`."""

    run_id: str
    thread_id: str
    events: list[tuple[str, str, Any]] = field(default_factory=list[tuple[str, str, Any]])
    status: str | None = None
    finished: float = 0


@dataclass
class Ledger:
    """The book of one chaos run. Times are monotonic, in seconds."""

    acknowledged: dict[str, Acknowledged] = field(default_factory=dict[str, Acknowledged])
    # Attempts, answered or not, at what may take runs away: when, by thread; a rollback, or the deletion of the thread.
    rollbacks: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    deletions: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    # Runs that somebody tried to delete or roll back by their own ids.
    removed: set[str] = field(default_factory=set[str])
    # Threads of which an ended run was deleted: their rows are not recomputed.
    edited: set[str] = field(default_factory=set[str])
    seen: list[Seen] = field(default_factory=list[Seen])
    # Answers that no crash excuses.
    wrong: list[str] = field(default_factory=list[str])
    outcomes: Counter[str] = field(default_factory=Counter[str])

    def acknowledge(self, run: Acknowledged) -> None:
        """Note that a run was accepted."""
        self.acknowledged[run.run_id] = run

    def is_before(self, one: str, other: str) -> bool:
        """Say whether a run had been accepted when another was asked for: only then an order was promised."""
        first, second = self.acknowledged.get(one), self.acknowledged.get(other)
        return first is not None and second is not None and first.asked < second.sent

    def roll_back(self, thread_id: str) -> None:
        """Note that the runs of a thread may be rolled back from now on."""
        self.rollbacks.setdefault(thread_id, []).append(time.monotonic())

    def delete(self, thread_id: str) -> None:
        """Note that a thread may be deleted from now on."""
        self.deletions.setdefault(thread_id, []).append(time.monotonic())

    def may_be_gone(self, run: Acknowledged) -> bool:
        """Say whether a run may have been taken away on purpose. What takes away may arrive long after it was sent."""
        taken = [*self.rollbacks.get(run.thread_id, ()), *self.deletions.get(run.thread_id, ())]
        return not run.kept or run.run_id in self.removed or any(time_ > run.asked - 60 for time_ in taken)
