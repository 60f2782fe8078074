"""Answers that anybody may ask for, as often as they like: so many a second are worked out, and the others get the last."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

MOMENT = 1.0
# Requests that come one at a time are told what is true now, and a flood costs no more than this.
MOST = 10


class Brief(Generic[T]):
    """An answer that is worked out at most so often a second, once for all who wait for it. So is a failure."""

    def __init__(self, ask: Callable[[], Awaitable[T]], *, most: int = MOST) -> None:
        """Take what works it out, and how often a second."""
        self._ask = ask
        self._asked = deque[float](maxlen=most)
        self._working: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """Return the answer, or raise the failure: of now, or of less than a second ago."""
        now = asyncio.get_running_loop().time()
        has_time = len(self._asked) < (self._asked.maxlen or 0) or now - self._asked[0] >= MOMENT
        last = self._working
        if last is None or last.cancelled() or (last.done() and has_time):
            self._asked.append(now)
            self._working = last = asyncio.create_task(self._work(), name="an answer for whoever asks")
            # Also a failure that nobody waits for any more has been looked at.
            last.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return await asyncio.shield(last)

    async def _work(self) -> T:
        return await self._ask()
