"""Cancellations that get lost."""

import asyncio


def stop_if_cancelled() -> None:
    """Stop a task that has been cancelled, although it goes on.

    On Python 3.11 `asyncio.wait_for`, by which Valkey's client sends each command, loses a cancellation that comes as it ends.
    A task that then waits for what never comes is never done: to be called between the two.

    Raises:
        CancelledError: the task has been cancelled.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
