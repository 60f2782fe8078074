"""Answers that anybody may ask for, as often as they like: so many a second are worked out, and the others get the last."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

MOMENT = 1.0
# Whoever asks in turn is told what is, and a flood costs no more than this.
MOST = 10


class Brief(Generic[T]):
    """An answer that is worked out at most so often a second, once for all who wait for it. A failure is not remembered."""

    def __init__(self, ask: Callable[[], Awaitable[T]], *, most: int = MOST) -> None:
        """Take what works it out, and how often a second."""
        self._ask = ask
        self._asked = deque[float](maxlen=most)
        self._working: asyncio.Task[T] | None = None
        self._known: list[T] = []

    async def get(self) -> T:
        """Return the answer: of now, or of less than a second ago."""
        now = asyncio.get_running_loop().time()
        if self._known and len(self._asked) == self._asked.maxlen and now - self._asked[0] < MOMENT:
            return self._known[0]
        if self._working is None or self._working.done():
            self._asked.append(now)
            self._working = asyncio.create_task(self._work(), name="an answer for whoever asks")
            # Also a failure that nobody waits for any more has been looked at.
            self._working.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return await asyncio.shield(self._working)

    async def _work(self) -> T:
        self._known = []
        self._known = [await self._ask()]
        return self._known[0]
