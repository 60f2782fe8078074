"""The event loop that users' code runs on, kept apart from the one that talks to Temporal."""

import asyncio
import contextlib
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import structlog
import uvloop

log = structlog.get_logger()

T = TypeVar("T")

# A loop that has not turned for this long is set aside, in seconds.
PATIENCE = 1.0
BEAT = 0.25
THREADS = 64


class GraphLoop:
    """An event loop in a thread of its own."""

    def __init__(self, number: int) -> None:
        """Start the thread."""
        self.loop = uvloop.new_event_loop()
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix=f"graph-{number}")
        self.loop.set_default_executor(self._executor)
        self.turned = asyncio.get_running_loop().time()
        # A daemon: a node that never returns must not keep the process from ending.
        self.thread = threading.Thread(target=self._run, name=f"graphs-{number}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def where(self) -> str:
        """Say which line the thread is on: the innermost one outside the standard library and LangGraph."""
        frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]  # documented, for debuggers
        frame = frames.get(self.thread.ident or 0)
        if frame is None:
            return "unknown"
        stack = traceback.extract_stack(frame)
        own = [f for f in stack if "site-packages" not in f.filename and "lib/python" not in f.filename]
        last = (own or list(stack))[-1]
        return f"{last.filename}:{last.lineno} in {last.name}"

    def stop(self) -> None:
        """Let the thread end when it next turns."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._executor.shutdown(wait=False, cancel_futures=True)


class Work(Generic[T]):
    """A coroutine that the first loop to get to it runs."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        """Hold a coroutine that has not begun."""
        self.outcome: Future[T] = Future()
        self.home: GraphLoop | None = None
        self._make = make
        self._claim = threading.Lock()
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False

    def offer(self, loop: GraphLoop) -> None:
        """Let a loop run it, if no other has begun."""
        if not self._claim.locked():
            loop.loop.call_soon_threadsafe(self._begin, loop)

    def cancel(self) -> None:
        """Cancel it, begun or not."""
        self._cancelled = True
        if self.home is not None:
            self.home.loop.call_soon_threadsafe(self._cancel_task)
        elif self._claim.acquire(blocking=False):
            self.outcome.cancel()

    def _cancel_task(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _begin(self, loop: GraphLoop) -> None:
        if not self._claim.acquire(blocking=False):
            return
        self.home = loop
        self._task = loop.loop.create_task(self._run())
        if self._cancelled:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            result = await self._make()
        except asyncio.CancelledError:
            self.outcome.cancel()
        except BaseException as error:  # noqa: BLE001, it goes to whoever waits
            # Who may have gone, and have cancelled the outcome.
            with contextlib.suppress(InvalidStateError):
                self.outcome.set_exception(error)
        else:
            with contextlib.suppress(InvalidStateError):
                self.outcome.set_result(result)


class GraphLoops:
    """One loop for all graphs, because clients that users create at import are bound to the loop that first used them.

    A loop that a node blocks is set aside: it finishes what it has, and new work goes to a fresh one.
    """

    def __init__(self) -> None:
        """Start the first loop. Must be called on the main event loop."""
        self._main = asyncio.get_running_loop()
        self._count = 0
        self._aside: list[GraphLoop] = []
        self._open: set[Work[Any]] = set()
        self._current = self._fresh()

    def _fresh(self) -> GraphLoop:
        self._count += 1
        return GraphLoop(self._count)

    def submit(self, make: Callable[[], Coroutine[Any, Any, T]]) -> "Work[T]":
        """Run a coroutine on the graphs' loop."""
        work = Work(make)
        self._open.add(work)
        work.outcome.add_done_callback(lambda _: self._main.call_soon_threadsafe(self._finished, work))
        work.offer(self._current)
        return work

    async def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the graphs' loop and wait for it."""
        return await asyncio.wrap_future(self.submit(make).outcome)

    async def watch(self) -> None:
        """Set aside loops that have stopped turning, until cancelled."""
        while True:
            loop = self._current
            loop.loop.call_soon_threadsafe(self._turned, loop)
            await asyncio.sleep(BEAT)
            # Compared with our own turn: a machine that starves this loop as well says nothing about the other.
            if self._main.time() - loop.turned > PATIENCE:
                log.warning("A node blocks the event loop; new steps go to a fresh one", at=loop.where())
                self._aside.append(loop)
                self._current = self._fresh()
                for work in self._open:
                    work.offer(self._current)

    def _turned(self, loop: GraphLoop) -> None:
        # Runs on the graphs' loop; a float is written whole.
        loop.turned = self._main.time()

    def _finished(self, work: "Work[Any]") -> None:
        self._open.discard(work)
        home = work.home
        if home in self._aside and not any(other.home is home for other in self._open):
            self._aside.remove(home)
            home.stop()

    def close(self) -> None:
        """Stop all loops. Threads that are blocked are left behind."""
        for loop in (*self._aside, self._current):
            loop.stop()
