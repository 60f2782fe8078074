"""Processes, any of which may end while it is looked at."""

import contextlib

import psutil

from tests.eventually import eventually


def command_of(process: psutil.Process) -> str:
    """Read a command line; that of a process which has ended is empty."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def lives(process: psutil.Process) -> bool:
    """Say whether a process runs still."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill(processes: list[psutil.Process]) -> None:
    """Kill processes; some may end by themselves when others do."""
    for each in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()


async def all_gone(processes: list[psutil.Process]) -> None:
    """Wait until processes have ended."""

    async def gone() -> bool:
        return not any(lives(each) for each in processes)

    await eventually(gone, what=str(processes))
