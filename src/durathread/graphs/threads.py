"""The threads that run what is not async: as many as are needed at once, whatever is left behind."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

# More than there will ever be: how many there are is decided here.
ENOUGH = 100_000


class Call(Future[T]):
    """A call that a thread is to make, and what comes of it."""

    def __init__(
        self, function: Callable[..., T], args: Any, kwargs: Any, *, left: Callable[["Call[Any]"], None]
    ) -> None:
        """Hold the call."""
        super().__init__()
        self.function, self.args, self.kwargs = function, args, kwargs
        self._left = left

    def cancel(self) -> bool:
        """Give it up. Python cannot stop a thread: one that runs it is left behind."""
        cancelled = super().cancel()
        if not cancelled:
            self._left(self)
        return cancelled

    def make(self) -> None:
        """Make the call, unless it was given up."""
        if not self.set_running_or_notify_cancel():
            return
        try:
            result = self.function(*self.args, **self.kwargs)
        except BaseException as error:  # noqa: BLE001, it goes to whoever waits
            self.set_exception(error)
        else:
            self.set_result(result)


class Threads(ThreadPoolExecutor):
    """Runs so many calls at once, not counting those that nobody waits for any more."""

    def __init__(self, size: int, *, name: str) -> None:
        """Start no thread yet.

        Args:
            size: how many calls run at once.
            name: what the names of the threads begin with.
        """
        super().__init__(ENOUGH, thread_name_prefix=name)
        self._size = size
        self._guard = threading.Lock()
        self._running: set[Call[Any]] = set()
        self._left: set[Call[Any]] = set()
        self._waiting: deque[Call[Any]] = deque()
        self._ended = False

    @property
    def left_behind(self) -> int:
        """How many threads run what was given up."""
        return len(self._left)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run a function in a thread, as soon as there is room."""
        call = Call(fn, args, kwargs, left=self._leave)
        with self._guard:
            if self._ended:
                raise RuntimeError("These threads have been shut down")
            self._waiting.append(call)
            self._fill()
        return call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End when all that runs has."""
        with self._guard:
            self._ended = True
            waiting, self._waiting = self._waiting, deque()
            if not cancel_futures:
                for call in waiting:
                    self._start(call)
        if cancel_futures:
            for call in waiting:
                call.cancel()
        super().shutdown(wait, cancel_futures=cancel_futures)

    def _fill(self) -> None:
        while self._waiting and len(self._running) < self._size:
            self._start(self._waiting.popleft())

    def _start(self, call: Call[Any]) -> None:
        self._running.add(call)
        try:
            super().submit(self._make, call)
        except BaseException:
            self._running.discard(call)
            raise

    def _make(self, call: Call[Any]) -> None:
        try:
            call.make()
        finally:
            with self._guard:
                self._running.discard(call)
                self._left.discard(call)
                self._fill()

    def _leave(self, call: Call[Any]) -> None:
        with self._guard:
            if call in self._running and call.running():
                self._running.discard(call)
                self._left.add(call)
                self._fill()
