"""The event loop that users' code runs on, kept apart from the one that talks to Temporal."""

import asyncio
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

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
        self.working = 0
        # A daemon: a node that never returns must not keep the process from ending.
        self.thread = threading.Thread(target=self._run, name=f"graphs-{number}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def where(self) -> str:
        """Say which line the thread is on: the innermost one outside the standard library and LangGraph."""
        frame = sys._current_frames().get(self.thread.ident or 0)
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


class GraphLoops:
    """One loop for all graphs, because clients that users create at import are bound to the loop that first used them.

    A loop that a node blocks is set aside: it finishes what it has, and new work goes to a fresh one.
    """

    def __init__(self) -> None:
        """Start the first loop. Must be called on the main event loop."""
        self._main = asyncio.get_running_loop()
        self._count = 0
        self._aside: list[GraphLoop] = []
        self._current = self._fresh()

    def _fresh(self) -> GraphLoop:
        self._count += 1
        return GraphLoop(self._count)

    def submit(self, make: Callable[[], Coroutine[Any, Any, T]]) -> "Future[T]":
        """Run a coroutine on the graphs' loop."""
        home = self._current
        home.working += 1
        future = asyncio.run_coroutine_threadsafe(make(), home.loop)

        def done(_: "Future[T]") -> None:
            self._main.call_soon_threadsafe(self._finished, home)

        future.add_done_callback(done)
        return future

    async def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the graphs' loop and wait for it."""
        return await asyncio.wrap_future(self.submit(make))

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

    def _turned(self, loop: GraphLoop) -> None:
        # Runs on the graphs' loop; a float is written whole.
        loop.turned = self._main.time()

    def _finished(self, loop: GraphLoop) -> None:
        loop.working -= 1
        if loop in self._aside and not loop.working:
            self._aside.remove(loop)
            loop.stop()

    def close(self) -> None:
        """Stop all loops. Threads that are blocked are left behind."""
        for loop in (*self._aside, self._current):
            loop.stop()
