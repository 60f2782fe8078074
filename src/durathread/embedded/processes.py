"""Recognises a process by its number and the moment it started, so that a reused number is never mistaken for it."""

import os
import subprocess
import sys
from pathlib import Path

PROC = Path("/proc")


def identity(pid: int) -> str | None:
    """Tell a process from every other that ever had its number; None when it has ended."""
    if sys.platform == "linux":
        return _started(pid)
    return _ps(pid, "lstart")


def program(pid: int) -> str | None:
    """Return the command line of a process; None when it has ended."""
    if sys.platform == "linux":
        try:
            return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return None
    return _ps(pid, "command")


def running_in(folder: Path, *, executable: Path) -> list[int]:
    """List the processes of a program whose working directory is a folder (Linux only)."""
    if sys.platform != "linux":
        return []
    return [
        int(entry.name)
        for entry in PROC.iterdir()
        if entry.name.isdigit() and _link(entry / "cwd") == folder and _link(entry / "exe") == executable
    ]


def _started(pid: int) -> str | None:
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The name, in parentheses, may hold anything: fields are counted after it.
    fields = stat.rpartition(")")[2].split()
    # A zombie has ended: whoever should reap it may never do so (a container without an init).
    return None if fields[0] in "ZX" else fields[19]


def _ps(pid: int, column: str) -> str | None:
    answer = subprocess.run(["ps", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None


def _link(path: Path) -> Path | None:
    try:
        return Path(os.readlink(path))
    except OSError:
        return None
