"""Watches, from a thread of its own, whether the event loop of a process turns, and names what blocks it."""

import asyncio
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

import structlog

from durathread.process.sources import line_of

log = structlog.get_logger()

# A loop that has not turned for this long is blocked, in seconds; and one that has not for that long is given up.
BLOCKED = 1.0
GIVEN_UP = 30.0
BEAT = 0.25
# What a beat counts for at most, however long it was: while all of the process stood still, nobody watched.
LONGEST_BEAT = 2 * BEAT


class Watchdog:
    """Asks a loop again and again to turn. Must be built on that loop, in the thread that runs it."""

    def __init__(self) -> None:
        """Watch the running loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._stop = threading.Event()
        self._turned = threading.Event()
        # For how long it has been asked in vain, by the time that we have watched, and where it was found.
        self._waited = 0.0
        self._at = ""

    @property
    def failure(self) -> str | None:
        """Why nothing is to be expected of the loop any more; None while it turns. May be asked in any thread."""
        if self._waited < GIVEN_UP:
            return None
        return f"The event loop has been blocked for {self._waited:.0f} seconds, at {self._at}."

    def watch(self) -> None:
        """Watch until the block of `watching` is left."""
        last = time.monotonic()
        self._turned.set()
        while not self._stop.wait(BEAT):
            now = time.monotonic()
            beat, last = min(now - last, LONGEST_BEAT), now
            if self._turned.is_set():
                self._turns()
                self._turned.clear()
                try:
                    self._loop.call_soon_threadsafe(self._turned.set)
                except RuntimeError:
                    # It is closed.
                    return
            else:
                self._waits(beat)

    @contextmanager
    def watching(self) -> Generator[None]:
        """Watch for as long as the block lasts."""
        threading.Thread(target=self.watch, name="watchdog", daemon=True).start()
        try:
            yield
        finally:
            self._stop.set()

    def _turns(self) -> None:
        if self._at:
            log.info("The event loop turns again", after=round(self._waited, 1))
        self._waited, self._at = 0.0, ""

    def _waits(self, beat: float) -> None:
        self._waited += beat
        if self._waited > BLOCKED and not self._at and (frame := _frame_of(self._thread)):
            self._at = line_of(frame)
            log.warning("The event loop of this process is blocked: it does nothing else meanwhile", at=self._at)


def _frame_of(thread: int) -> FrameType | None:
    # Documented, for all its name.
    return sys._current_frames().get(thread)  # pyright: ignore[reportPrivateUsage]
