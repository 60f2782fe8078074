"""Holds a process as a debugger does, every thread of it, until a line is read: `PID`."""

import ctypes
import os
import sys

SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17
WALL = 0x40000000


def ptrace(request: int, thread: int) -> None:
    """Ask the kernel, which says no in its own words."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    if libc.ptrace(request, thread, None, None) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main(pid: int) -> None:
    """Hold it, say so, and let it go."""
    held: set[int] = set()
    # A thread may be started before the one that starts it is held.
    while new := {int(name) for name in os.listdir(f"/proc/{pid}/task")} - held:
        for thread in new:
            ptrace(SEIZE, thread)
            ptrace(INTERRUPT, thread)
            os.waitpid(thread, WALL)
        held |= new
    print("held", flush=True)  # noqa: T201
    sys.stdin.readline()
    for thread in held:
        ptrace(DETACH, thread)


if __name__ == "__main__":
    main(int(sys.argv[1]))
