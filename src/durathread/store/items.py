"""LangGraph's store, usable from any event loop."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Any, cast

from langgraph.store.base import BaseStore, Op, Result
from langgraph.store.postgres import AsyncPostgresStore

from durathread.store.pool import Pool


class LoopStore(BaseStore):
    """Carries out operations on the loop that it was built on, whichever loop or thread asks."""

    supports_ttl = True

    def __init__(self, inner: BaseStore) -> None:
        """Wrap a store of the running event loop."""
        self._inner = inner
        self._loop = asyncio.get_running_loop()

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Carry out operations, and block this thread until they are done."""
        return asyncio.run_coroutine_threadsafe(self._inner.abatch(list(ops)), self._loop).result()

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Carry out operations."""
        if asyncio.get_running_loop() is self._loop:
            return await self._inner.abatch(ops)
        future = asyncio.run_coroutine_threadsafe(self._inner.abatch(list(ops)), self._loop)
        return await asyncio.wrap_future(future)


@asynccontextmanager
async def open_store(pool: Pool) -> AsyncGenerator[AsyncPostgresStore]:
    """Open the Postgres store on the pool of the process."""
    async with AsyncPostgresStore(cast(Any, pool)) as store:
        yield store
