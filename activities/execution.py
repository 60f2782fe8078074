"""A step that this process executes, for all attempts at it that come here.

Temporal starts another attempt when it has not heard of one for long: the process was frozen, or Temporal away. If the work
goes on in the same process, the new attempt waits for it instead of beginning again.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from durathread.workflows.messages import StepOutcome

# The run and the number of the call.
Key: TypeAlias = tuple[str, int]

# How long an outcome is kept for an attempt that has not come yet, in seconds.
KEPT = 30.0


class Stopped(Exception):
    """An execution was stopped for another attempt's sake: this worker is stopping, or the run is cancelled."""


class Execution:
    """The execution of one call of a step. It outlives attempts that Temporal gives up, as long as its run is its own."""

    def __init__(self, work: Coroutine[Any, Any, StepOutcome]) -> None:
        """Begin."""
        self._task = asyncio.create_task(work)
        # If nobody waits any more, its exception must still be looked at: asyncio would complain.
        self._task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())

    async def attend(self) -> StepOutcome:
        """Wait for the outcome. To be cancelled while waiting does not cancel the execution.

        Raises:
            Stopped: it has none.
        """
        await asyncio.wait([self._task])
        if self._task.cancelled():
            raise Stopped
        return self._task.result()

    async def stop(self) -> None:
        """Cancel it, and wait until it has ended."""
        self._task.cancel()
        await asyncio.wait([self._task])

    def on_end(self, callback: Callable[[bool], None]) -> None:
        """Call back at the end, with whether there is an outcome that other attempts may have."""

        def ended(task: asyncio.Task[StepOutcome]) -> None:
            callback(not task.cancelled() and not task.exception() and task.result().status != "superseded")

        self._task.add_done_callback(ended)


class Executions:
    """The steps that this process executes, or has just executed."""

    def __init__(self) -> None:
        """Begin with none."""
        self._known: dict[Key, Execution] = {}

    def find(self, key: Key) -> Execution | None:
        """Return the execution of a call, if it is here."""
        return self._known.get(key)

    def begin(self, key: Key, work: Coroutine[Any, Any, StepOutcome]) -> Execution:
        """Execute a call."""
        execution = self._known[key] = Execution(work)
        execution.on_end(lambda useful: self._ended(key, execution, useful=useful))
        return execution

    def _ended(self, key: Key, execution: Execution, *, useful: bool) -> None:
        if useful:
            asyncio.get_running_loop().call_later(KEPT, self._forget, key, execution)
        else:
            self._forget(key, execution)

    def _forget(self, key: Key, execution: Execution) -> None:
        if self._known.get(key) is execution:
            del self._known[key]

    async def close(self) -> None:
        """Stop what nobody waits for any more."""
        await asyncio.gather(*(execution.stop() for execution in list(self._known.values())))
