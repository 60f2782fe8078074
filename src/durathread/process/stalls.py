"""Notices when the event loop of a worker, or its whole process, has stood still."""

import asyncio
import time

# A loop that has not turned for so long was stalled; for a while after it, attempts may have waited here unseen. In seconds.
STALL = 1.0
AFTER_STALL = 30.0
TURN = 0.25


class Turns:
    """Compares clocks with how often the loop turns."""

    def __init__(self) -> None:
        """Begin with a loop that turns."""
        self._turned = time.time(), time.monotonic()
        self._stalled = time.monotonic() - AFTER_STALL

    async def watch(self) -> None:
        """Turn, until cancelled."""
        while True:
            await asyncio.sleep(TURN)
            self._look()

    def stalled_lately(self) -> bool:
        """Say whether the loop has stood still, until now or a moment ago."""
        self._look()
        return time.monotonic() - self._stalled < AFTER_STALL

    def _look(self) -> None:
        # A laptop that has slept shows only on the clock on the wall.
        now = time.time(), time.monotonic()
        if max(now[0] - self._turned[0], now[1] - self._turned[1]) > STALL + TURN:
            self._stalled = now[1]
        self._turned = now
