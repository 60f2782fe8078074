"""Becomes a child process that does not outlive its parent. Run as a script, by path: it imports nothing of ours.

    [DURATHREAD_CHILD_UMASK=077] launch.py PARENT SIGNAL USER COMMAND...

A fork of our own process would do the same in `preexec_fn`, but that may deadlock in a process that has threads.
Costs 20 ms.
"""

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
LINUX_CAPABILITY_VERSION_3 = 0x20080522


def become(name: str) -> None:
    """Go on as another user, who may still enter the folders that only root may."""
    user = pwd.getpwnam(name)
    linux = sys.platform == "linux"
    libc = ctypes.CDLL(None) if linux else None
    if libc:
        libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    if libc:
        # Data and programs often lie below /root: one capability instead of opening that to everybody.
        header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
        only = 1 << CAP_DAC_OVERRIDE
        libc.capset(header, (ctypes.c_uint32 * 6)(only, only, only, 0, 0, 0))
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def follow(parent: int, number: int) -> None:
    """Have the kernel send this process a signal when its parent ends (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    # It may have ended before.
    if os.getppid() != parent:
        os._exit(1)


def main() -> None:
    """Read the arguments and become the command."""
    parent, number, user, *command = sys.argv[1:]
    if umask := os.environ.pop("DURATHREAD_CHILD_UMASK", ""):
        os.umask(int(umask, 8))
    if user:
        become(user)
    # After the change of user, which clears it.
    follow(int(parent), int(number))
    os.execvp(command[0], command)


main()
