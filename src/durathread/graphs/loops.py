"""The event loop that users' code runs on, kept apart from the one that talks to Temporal."""

import asyncio
import contextlib
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future, InvalidStateError
from contextvars import Context, ContextVar, copy_context
from typing import Any, Generic, TypeVar, cast

import structlog

from durathread.errors import LoopEnded
from durathread.graphs.threads import Threads
from durathread.process import event_loop
from durathread.process.sources import line_of

log = structlog.get_logger()

T = TypeVar("T")

# A loop that has not turned for this long has stalled, in seconds.
STALLED = 1.0
BEAT = 0.25
# What a beat counts for at most, however long it was.
LONGEST_BEAT = 2 * BEAT
# How long work waits for the loop that its own graph has stalled, in seconds.
LOOP_PATIENCE = 30.0
# How many threads there are at least for what is not async.
THREADS = 64
# How long what is left on a loop that is closed may take to stop, in seconds.
LEAVING = 5.0


class Raised(Exception):
    """Users' code has raised what would end a process or cancel a task. Its cause says what."""


class UsersLoop(event_loop.EventLoop):
    """An event loop that users' code shares, and therefore may not stop."""

    ending = False

    def stop(self) -> None:
        """Stop, if we want it to.

        Raises:
            RuntimeError: somebody else does.
        """
        if not self.ending:
            raise RuntimeError("The event loop is shared by all graphs of this process: a node cannot stop it")
        super().stop()


class GraphLoop:
    """An event loop in a thread of its own."""

    def __init__(self, number: int, *, threads: int = THREADS, turned: float = 0.0) -> None:
        """Start the thread, at a time of those who will watch it; `threads` is how many others what is not async may have."""
        self.loop = UsersLoop()
        self.loop.set_task_factory(cast(Any, self._make_task))
        self.executor = Threads(threads, name=f"graph-{number}")
        self.loop.set_default_executor(self.executor)
        # Who has made which task, to tell whose code stalls the loop.
        self._works: weakref.WeakKeyDictionary[asyncio.Task[Any], Work[Any]] = weakref.WeakKeyDictionary()
        self._asked = False
        self.turned = turned
        # Since when it has stalled, and through whom; None while it turns.
        self.stalled: float | None = None
        self.blocker: Work[Any] | None = None
        # A daemon: a node that never returns must not keep the process from ending.
        self.thread = threading.Thread(target=self._run, name=f"graphs-{number}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self.loop.ending:
            # A task that ends with one of these has it as its exception, and asyncio raises it through the loop as well.
            with contextlib.suppress(SystemExit, KeyboardInterrupt):
                self.loop.run_forever()
        self._close()

    def _close(self) -> None:
        # What a node has left in a thread of the executor still reports to this loop when it ends.
        self.executor.shutdown(wait=True, cancel_futures=True)
        with contextlib.suppress(BaseException):
            self.loop.run_until_complete(self._leave())
        self.loop.close()

    async def _leave(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=LEAVING)
        await self.loop.shutdown_asyncgens()

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], **options: Any
    ) -> asyncio.Task[T]:
        task = asyncio.Task(work, loop=loop, **options)
        if (maker := _WORK.get()) is not None:
            self._works[task] = maker
        return task

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self.thread.is_alive()

    def working(self) -> "Work[Any] | None":
        """Return the work whose code runs now, if that can be told."""
        task = asyncio.current_task(self.loop)
        return self._works.get(task) if task is not None else None

    def where(self) -> str:
        """Say which line of the user's the thread is on."""
        frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]  # documented, for debuggers
        frame = frames.get(self.thread.ident or 0)
        return "unknown" if frame is None else line_of(frame)

    def ask(self, clock: Callable[[], float], turned: Callable[["GraphLoop"], None]) -> None:
        """Have the loop say when it turns, unless it has yet to answer."""
        if not self._asked:
            self._asked = True
            self.call(self._answer, clock, turned)

    def _answer(self, clock: Callable[[], float], turned: Callable[["GraphLoop"], None]) -> None:
        self._asked = False
        # A float is written whole.
        self.turned = clock()
        if self.stalled is not None:
            turned(self)

    def call(self, function: Callable[..., Any], *args: Any, context: Context | None = None) -> None:
        """Call a function when the loop next turns, unless it has ended."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function, *args, context=context)

    def stop(self) -> None:
        """Let the thread end when it next turns and its executor has nothing left to do."""
        self.loop.ending = True
        self.call(self.loop.stop)

    def bury(self) -> None:
        """Close what the thread has left that has ended."""
        self.loop.ending = True
        threading.Thread(target=self._close, name=f"{self.thread.name} is closed", daemon=True).start()


class Work(Generic[T]):
    """A coroutine that the first loop to get to it runs."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, T]], *, graph_id: str = "", run_id: str = "") -> None:
        """Hold a coroutine that has not begun."""
        self.outcome: Future[T] = Future()
        self.home: GraphLoop | None = None
        self.graph_id = graph_id
        self.run_id = run_id
        self._make = make
        # Whichever loop runs it, and whoever moves it there.
        self._context = copy_context()
        self._claim = threading.Lock()
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False
        self._offered: set[GraphLoop] = set()

    @property
    def begun(self) -> bool:
        """Whether a loop runs it, or nobody ever will."""
        return self._claim.locked()

    def offer(self, loop: GraphLoop) -> None:
        """Let a loop run it, if no other has begun."""
        if not self.begun and loop not in self._offered:
            self._offered.add(loop)
            loop.call(self._begin, loop, context=self._context)

    def offered_to(self, loop: GraphLoop) -> bool:
        """Whether a loop may yet run it."""
        return loop in self._offered

    def cancel(self) -> None:
        """Cancel it, begun or not."""
        self._cancelled = True
        if self.home is not None:
            self.home.call(self._cancel_task)
        elif self._claim.acquire(blocking=False):
            self.outcome.cancel()

    def fail(self, error: Exception) -> None:
        """Give it up: nobody runs it any more."""
        with contextlib.suppress(InvalidStateError):
            self.outcome.set_exception(error)

    def _cancel_task(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _begin(self, loop: GraphLoop) -> None:
        if not self._claim.acquire(blocking=False):
            return
        self.home = loop
        token = _WORK.set(self)
        try:
            self._task = loop.loop.create_task(self._run())
        finally:
            _WORK.reset(token)
        # A task that is cancelled before its first turn runs nothing.
        self._task.add_done_callback(lambda _: self.outcome.cancel())
        if self._cancelled:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            result = await self._make()
        except asyncio.CancelledError as error:
            if self._cancelled:
                self.outcome.cancel()
            else:
                self.fail(_raised(error))
        except Exception as error:  # noqa: BLE001, it goes to whoever waits
            # They may have gone, and have cancelled the outcome.
            self.fail(error)
        except BaseException as error:  # noqa: BLE001, the loop and its other work go on
            self.fail(_raised(error))
        else:
            with contextlib.suppress(InvalidStateError):
                self.outcome.set_result(result)


_WORK: ContextVar[Work[Any] | None] = ContextVar("the work that makes tasks", default=None)


def _raised(error: BaseException) -> Raised:
    raised = Raised(repr(error))
    raised.__cause__ = error
    return raised


class GraphLoops:
    """One loop for all graphs, because clients that users create at import are bound to the loop that first used them.

    While a node stalls it, other graphs run on a spare one; those of the same graph wait for it. When it turns again it
    is the loop again. Spare loops are closed when their work has ended.
    """

    def __init__(self, *, patience: float = LOOP_PATIENCE, threads: int = THREADS) -> None:
        """Start the loop. Must be called on the main event loop.

        Args:
            patience: how long a graph's work waits for the loop that the same graph has stalled, in seconds.
            threads: how many nodes and tools that are not async run at once.
        """
        self._threads = threads
        self._main = asyncio.get_running_loop()
        self._patience = patience
        self._count = 0
        # How long we have watched, and when that was noted last: written as one, since other threads read it.
        self._watched = (0.0, self._main.time())
        self._open: set[Work[Any]] = set()
        self._closing: set[GraphLoop] = set()
        # The first is the loop; each of the others is there because all before it have stalled.
        self._loops = [self._fresh()]
        self.set_aside = 0

    def _fresh(self) -> GraphLoop:
        self._count += 1
        return GraphLoop(self._count, threads=self._threads, turned=self._clock())

    @property
    def stalled(self) -> int:
        """How many loops do not turn now."""
        return sum(1 for loop in self._loops if loop.stalled is not None)

    @property
    def left_behind(self) -> int:
        """How many threads work on what was cancelled."""
        return sum(loop.executor.left_behind for loop in (*self._loops, *self._closing))

    @property
    def running(self) -> int:
        """How many loops there are, with those that end when their threads have."""
        self._closing = {loop for loop in self._closing if loop.alive}
        return len(self._loops) + len(self._closing)

    def submit(self, make: Callable[[], Coroutine[Any, Any, T]], *, graph_id: str = "", run_id: str = "") -> "Work[T]":
        """Run a coroutine on the graphs' loop.

        Args:
            make: makes the coroutine.
            graph_id: whose code it runs. Without one it waits for the loop as that of the graph that has stalled it.
            run_id: for whom, as logs name it.
        """
        work = Work(make, graph_id=graph_id, run_id=run_id)
        self._open.add(work)
        work.outcome.add_done_callback(lambda _: self._main.call_soon_threadsafe(self._finished, work))
        self._place(work)
        return work

    async def run(self, make: Callable[[], Coroutine[Any, Any, T]], *, graph_id: str = "") -> T:
        """Run a coroutine on the graphs' loop and wait for it."""
        work = self.submit(make, graph_id=graph_id)
        try:
            return await asyncio.wrap_future(work.outcome)
        except asyncio.CancelledError:
            work.cancel()
            raise

    async def watch(self) -> None:
        """Notice loops that stall, turn again or end, until cancelled."""
        while True:
            for loop in self._loops:
                loop.ask(self._clock, self._turns)
            await asyncio.sleep(BEAT)
            self._watched = (self._clock(), self._main.time())
            for loop in tuple(self._loops):
                self._look_at(loop)
            for work in tuple(self._open):
                self._place(work)
            self._tidy()

    def _clock(self) -> float:
        """Tell the time that we have watched, in seconds. While all of the process stood still, nobody did."""
        before, since = self._watched
        return before + min(self._main.time() - since, LONGEST_BEAT)

    def _look_at(self, loop: GraphLoop) -> None:
        if loop not in self._loops:
            return
        if not loop.alive:
            self._bury(loop)
            return
        # By the time that we have watched: what stops this loop as well (SIGSTOP, a laptop that sleeps, a node that holds the
        # GIL, a machine with no time for us) says nothing about the other.
        stalls = self._clock() - loop.turned > STALLED
        if stalls and loop.stalled is None:
            loop.stalled, loop.blocker = loop.turned, loop.working()
            self.set_aside += 1
            log.warning(
                "A node blocks the event loop; other graphs go on elsewhere until it turns again",
                at=loop.where(),
                **_named(loop.blocker),
            )
        elif not stalls and loop.stalled is not None:
            log.info("The event loop turns again", after=round(self._clock() - loop.stalled, 1))
            loop.stalled = loop.blocker = None

    def _place(self, work: Work[Any]) -> None:
        """Offer work that has not begun to the first loop that turns; not past one that it should wait for."""
        if work.begun:
            return
        for loop in self._loops:
            if loop.stalled is None or self._waits(work, loop):
                work.offer(loop)
                return
        self._loops.append(self._fresh())
        work.offer(self._loops[-1])

    def _waits(self, work: Work[Any], loop: GraphLoop) -> bool:
        """Whether work waits for a loop that has stalled: its graph's clients may be bound to that one."""
        blocker = loop.blocker
        other = blocker is not None and blocker.graph_id and work.graph_id and blocker.graph_id != work.graph_id
        return not other and self._clock() - (loop.stalled or 0) < self._patience

    def _bury(self, loop: GraphLoop) -> None:
        """Give up what a loop had whose thread has ended: it cannot go on."""
        log.error("The thread of an event loop has ended; what ran on it has failed")
        self._loops.remove(loop)
        loop.bury()
        if not self._loops:
            self._loops.append(self._fresh())
        for work in tuple(self._open):
            if work.home is loop:
                work.fail(LoopEnded("The thread that ran this code has ended."))

    def _tidy(self) -> None:
        """Close spare loops that nobody needs: all but those that work, and the one that takes new work."""
        needed = next((number for number, loop in enumerate(self._loops) if loop.stalled is None), len(self._loops))
        for loop in self._loops[needed + 1 :]:
            if not any(work.home is loop or (not work.begun and work.offered_to(loop)) for work in self._open):
                self._loops.remove(loop)
                self._closing.add(loop)
                loop.stop()

    def _turns(self, loop: GraphLoop) -> None:
        # Runs on the loop that turns again: the next work is to find it, not the next look at it.
        self._main.call_soon_threadsafe(self._look_at, loop)

    def _finished(self, work: "Work[Any]") -> None:
        self._open.discard(work)

    def close(self) -> None:
        """Stop all loops. Threads that are blocked are left behind."""
        loops, self._loops = self._loops, []
        for loop in loops:
            loop.stop()


def _named(work: Work[Any] | None) -> dict[str, str]:
    """Name the run and the graph of a piece of work, as far as they are known."""
    pairs: Iterable[tuple[str, str]] = (("graph_id", work.graph_id), ("run_id", work.run_id)) if work else ()
    return {name: value for name, value in pairs if value}
