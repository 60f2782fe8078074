"""The attempt at an activity that runs here, and why it shall stop."""

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

from temporalio import activity

from durathread.companion.spawn import Answer

# `lost`: Temporal has given the attempt up; another has taken its place, or will.
Ending = Literal["cancelled", "shutdown", "lost"]


@dataclass(eq=False)
class Attempt:
    """An attempt that this process works on. `ending` says why it shall stop, once it shall."""

    info: activity.Info
    ending: Ending | None = None
    # Set when Temporal has something to say: it is to be asked what.
    told: asyncio.Event = field(default_factory=asyncio.Event)
    # What the companion has heard.
    answer: Answer | None = None
    # Whether the SDK has forgotten the attempt, though it is alive; its end is then ours to report.
    forgotten: bool = False

    def hear(self, answer: Answer) -> None:
        """Take what the companion has heard."""
        self.answer = answer
        self.told.set()


attempt_here: ContextVar[Attempt | None] = ContextVar("attempt", default=None)


def why_cancelled() -> Ending:
    """Say why the running attempt is cancelled."""
    attempt = attempt_here.get()
    if attempt is not None and attempt.ending is not None:
        return attempt.ending
    details = activity.cancellation_details()
    return "shutdown" if details and details.worker_shutdown else "cancelled"
