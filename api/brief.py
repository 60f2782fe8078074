"""Remembers an answer for a moment: anybody may ask for it, as often as they like."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

MOMENT = 1.0


class Brief(Generic[T]):
    """An answer that is worked out at most once a second, whoever asks. A failure is not remembered."""

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        """Take what works it out."""
        self._ask = ask
        self._lock = asyncio.Lock()
        self._known: tuple[float, T] | None = None

    async def get(self) -> T:
        """Return the answer."""
        clock = asyncio.get_running_loop()
        async with self._lock:
            if self._known is None or clock.time() - self._known[0] >= MOMENT:
                self._known = clock.time(), await self._ask()
            return self._known[1]
