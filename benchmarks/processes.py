"""The processor time of a server's processes, read from /proc: of each that is named, with all that descend from it."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")

# What a process is called, by what its command line has.
NAMES: Mapping[str, str] = {
    "valkey-server": "Valkey",
    "redis-server": "Redis",
    "temporal": "Temporal",
    "postgres": "Postgres",
    "api": "API",
    "worker": "worker",
    "dev": "supervisor",
}


def spent(roots: Sequence[int]) -> dict[str, float]:
    """Return the milliseconds that processes and their descendants have taken, by what they are called."""
    children = _children()
    found: dict[str, float] = {}
    for root in roots:
        _add(root, _name(root), children, found)
    return found


def _add(pid: int, name: str, children: Mapping[int, list[int]], found: dict[str, float]) -> None:
    stat = _stat(pid)
    if stat is None:
        return
    # Its own time, and that of children it has waited for: a connection of Postgres that ends takes nothing along.
    found[name] = found.get(name, 0) + sum(int(stat[place]) for place in range(11, 15)) * TICK_MS
    for child in children.get(pid, []):
        # What a supervisor starts are parts of the server; what those start belongs to them.
        _add(child, _name(child) if name == "supervisor" else name, children, found)


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))) is not None:
            found.setdefault(int(stat[1]), []).append(int(entry.name))
    return found


def _stat(pid: int) -> list[str] | None:
    """Read the fields of a process after its name; None if it has gone."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _name(pid: int) -> str:
    try:
        words = (Path("/proc") / str(pid) / "cmdline").read_text().split("\0")
    except OSError:
        return "gone"
    # Some write their whole command line into one word.
    for word in map(os.path.basename, " ".join(words).split(" ")):
        if word in NAMES:
            return NAMES[word]
    return Path(words[0]).name or "?"
