"""The kind of event loop that our processes run on: uvloop where there is one."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

try:
    from uvloop import Loop as EventLoop
except ImportError:
    from asyncio import SelectorEventLoop as EventLoop

T = TypeVar("T")

__all__ = ["EventLoop", "run"]


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as a process's whole work."""
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        return runner.run(main)
