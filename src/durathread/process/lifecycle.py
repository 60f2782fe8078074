"""The owner of a process's background parts: the first of them that ends unforeseen ends the process."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import structlog

from durathread.errors import Error, PartEnded

log = structlog.get_logger()

T = TypeVar("T")


class Owner:
    """Owns the background parts of a process, so that none of them ends in silence.

    A process that has lost a part answers, and does nothing: it is better restarted. The fence makes that safe.
    """

    def __init__(self) -> None:
        """Own nothing yet. Must be called on the event loop of the parts."""
        self._parts: set[asyncio.Task[Any]] = set()
        self._errands: set[asyncio.Task[Any]] = set()
        self._lost: asyncio.Future[PartEnded] = asyncio.get_running_loop().create_future()

    @property
    def failure(self) -> PartEnded | None:
        """What has ended unforeseen; None while all parts live."""
        return self._lost.result() if self._lost.done() else None

    async def failed(self) -> PartEnded:
        """Wait until a part has ended unforeseen."""
        return await asyncio.shield(self._lost)

    @asynccontextmanager
    async def keeping(self, work: Coroutine[Any, Any, Any], *, name: str) -> AsyncGenerator[None]:
        """Run a part that lasts as long as the block."""
        task = asyncio.create_task(work, name=name)
        self._parts.add(task)
        task.add_done_callback(self._ended)
        try:
            yield
        finally:
            self._parts.discard(task)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def during(self, work: Awaitable[T]) -> T:
        """Wait for something, which is cancelled when a part ends.

        Raises:
            PartEnded: a part has ended, and the work has stopped for it.
        """
        task = asyncio.current_task()
        assert task is not None

        def stop(_: object) -> None:
            task.cancel()

        self._lost.add_done_callback(stop)
        try:
            return await work
        except asyncio.CancelledError:
            if self.failure is not None and task.uncancel() == 0:
                raise self.failure from None
            raise
        finally:
            self._lost.remove_done_callback(stop)

    def spawn(self, work: Coroutine[Any, Any, Any], *, name: str) -> None:
        """Do something that outlives the request that asked for it. Its failure is logged, and is nobody else's."""
        task = asyncio.create_task(work, name=name)
        self._errands.add(task)
        task.add_done_callback(self._done)

    async def close(self) -> None:
        """Stop all errands."""
        for task in self._errands:
            task.cancel()
        await asyncio.gather(*self._errands, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if task not in self._parts:
            return
        self._parts.discard(task)
        error = None if task.cancelled() else task.exception()
        why = "it was cancelled" if task.cancelled() else "it returned" if error is None else repr(error)
        log.error("A part of this process has ended; the process ends too", part=task.get_name(), exc_info=error)
        if not self._lost.done():
            failure = PartEnded(f"The part '{task.get_name()}' of this process has ended: {why}")
            failure.__cause__ = error
            self._lost.set_result(failure)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._errands.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, Error):
            log.warning("What a request has left to be done failed", errand=task.get_name(), error=str(error))
        else:
            log.error("What a request has left to be done failed", errand=task.get_name(), exc_info=error)
