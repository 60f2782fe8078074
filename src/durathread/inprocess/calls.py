"""Whose code calls: a node's requests to this server name the run that the node works on, and each has a key of its own.

A run that waits for another on its own thread would wait for ever, so such requests must be known. And a step that is repeated
asks again: by the key it gets what it got before.
"""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from hashlib import sha256
from uuid import UUID, uuid5

from langgraph.config import get_config
from langgraph.runtime import get_runtime

# Over HTTP, where anybody can send it: it is believed only against who sends it.
HEADER = "x-durathread-run"


@dataclass(frozen=True)
class Call:
    """A request that a node makes from within the process."""

    run_id: UUID
    key: UUID

    def named(self, what: str) -> UUID:
        """Name something that the request makes."""
        return uuid5(self.key, what)


@dataclass
class _Working:
    """A run, for as long as one attempt at a step of it lasts."""

    run_id: UUID
    step: int
    calls: Counter[str] = field(default_factory=Counter[str])


_WORKING: ContextVar[_Working | None] = ContextVar("durathread_working", default=None)


@contextmanager
def working(run_id: UUID, *, step: int) -> Generator[None]:
    """Say that what runs in this context works on a step of a run."""
    token = _WORKING.set(_Working(run_id, step))
    try:
        yield
    finally:
        _WORKING.reset(token)


def run_at_work() -> UUID | None:
    """Name the run that the caller's code works on."""
    found = _WORKING.get()
    return found and found.run_id


def call(method: str, target: bytes, body: bytes) -> Call | None:
    """Identify a request of the caller's code; None if it works on no run.

    A repeated step makes the same requests from the same places. Of those that are alike, the order counts.
    """
    found = _WORKING.get()
    if found is None:
        return None
    digest = sha256(b"\0".join((method.encode(), target, body))).hexdigest()
    place = f"{found.step}/{_place()}/{digest}"
    found.calls[place] += 1
    return Call(found.run_id, uuid5(found.run_id, f"{place}/{found.calls[place]}"))


def _place() -> str:
    """Say where in its graph the caller's code runs, in words that a repetition uses too: ids of tasks may change."""
    try:
        config = get_config()
    except RuntimeError:
        return ""
    metadata = config.get("metadata") or {}
    namespace = str(metadata.get("langgraph_checkpoint_ns", ""))
    names = "|".join(part.partition(":")[0] for part in namespace.split("|"))
    return f"{names}/{metadata.get('langgraph_step')}/{metadata.get('langgraph_path')}/{_tries()}"


def _tries() -> int:
    """Say how often the node was begun: one that is tried again, by its own policy, asks for something new."""
    try:
        info = get_runtime().execution_info
    except (RuntimeError, KeyError):
        return 1
    return info.node_attempt if info else 1
