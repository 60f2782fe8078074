"""Starts children again when they end."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager

from durathread.embedded.child import Child, describe
from durathread.errors import EngineError

FIRST_DELAY = 0.1
LAST_DELAY = 10.0
HEALTHY = 10.0
"""Seconds after which a child counts as well, so that its next restart is not delayed for earlier ones."""


@asynccontextmanager
async def supervised(children: Iterable[Child], *, say: Callable[[str], None]) -> AsyncGenerator[None]:
    """Start each child again whenever it ends, and say so."""
    keeping = [asyncio.create_task(keep(child, say=say)) for child in children]
    try:
        yield
    finally:
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)


async def keep(child: Child, *, say: Callable[[str], None]) -> None:
    """Start one child again whenever it ends, each time a little later if it does not stay well."""
    delay = FIRST_DELAY
    while True:
        since = time.monotonic()
        code = await child.wait()
        delay = FIRST_DELAY if time.monotonic() - since > HEALTHY else delay
        say(f"{child.label} ended ({describe(code)}); starting it again")
        await asyncio.sleep(delay)
        delay = min(delay * 2, LAST_DELAY)
        try:
            await child.start()
        except EngineError as error:
            say(str(error))
        else:
            say(f"{child.label} is back")
