"""Waiting with a condition and a deadline."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

PAUSE = 0.02


async def eventually(check: Callable[[], Awaitable[T]], *, timeout: float = 60.0, what: str = "") -> T:  # noqa: ASYNC109
    """Repeat a check until what it returns is true, and return that.

    Raises:
        AssertionError: it was not, within `timeout` seconds.
    """
    clock = asyncio.get_running_loop()
    end = clock.time() + timeout
    while True:
        if found := await check():
            return found
        if clock.time() > end:
            raise AssertionError(f"not within {timeout} s: {what or check.__name__} (last: {found!r})")
        await asyncio.sleep(PAUSE)
