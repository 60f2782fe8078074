"""The kind of event loop that our processes run on: uvloop where there is one."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

try:
    from uvloop import Loop as EventLoop
except ImportError:
    from asyncio import SelectorEventLoop as EventLoop

T = TypeVar("T")

__all__ = ["EventLoop", "run"]

log = structlog.get_logger()

# How long what is left at the end may take to be cancelled, in seconds.
PARTING = 5.0


def run(main: Coroutine[Any, Any, T], *, parting: float = PARTING) -> T:
    """Run a coroutine as a process's whole work. The caller ends the process then: a task that cannot be cancelled is left.

    `asyncio.run` would wait for it for ever: so does a poller of temporalio 1.29 whose worker is stopped.
    """
    runner = asyncio.Runner(loop_factory=EventLoop)
    try:
        return runner.run(main)
    finally:
        _close(runner, parting)


def _close(runner: asyncio.Runner, parting: float) -> None:
    loop = runner.get_loop()
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    pending = loop.run_until_complete(asyncio.wait(left, timeout=parting))[1] if left else set[asyncio.Task[Any]]()
    if pending:
        log.warning("Tasks did not end with their process", tasks=sorted(str(task.get_coro()) for task in pending))
    else:
        runner.close()
