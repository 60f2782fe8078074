"""Heartbeats of activities that take long."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from temporalio import activity


@asynccontextmanager
async def beating(heartbeat_timeout: float) -> AsyncGenerator[None]:
    """Send heartbeats, several in each heartbeat timeout, so that only a dead worker misses one."""

    async def beat() -> None:
        # Not at once: most activities are over before, and each heartbeat is a write to Temporal's database.
        while True:
            await asyncio.sleep(min(heartbeat_timeout / 3, 1.0))
            activity.heartbeat()

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
