"""Events of a run, as they stand in its Valkey stream."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

# One channel for all runs: a message names the runs that have news, and the status of those that have ended.
NEWS = "durathread:news"
END = "end"
THREAD = "thread:"
# Subjects that are no runs: the marks of a thread, and its protocol events.
FRAMES = "frames:"


@dataclass(frozen=True, slots=True)
class Event:
    """One event: `name` as in `event:`, `data` as the JSON of `data:`, `event_id` as in `id:`."""

    event_id: str
    name: str
    data: bytes

    @property
    def mode(self) -> str:
        """The name without the namespace of a subgraph."""
        return self.name.partition("|")[0]


@dataclass(frozen=True, slots=True)
class News:
    """What a message on the news channel says: runs with new events, and runs that have ended."""

    runs: tuple[str, ...]
    ended: dict[str, str]

    def encode(self) -> bytes:
        """Encode for the wire."""
        return orjson.dumps([self.runs, self.ended])

    @classmethod
    def decode(cls, data: bytes) -> "News":
        """Decode from the wire."""
        runs, ended = orjson.loads(data)
        return cls(tuple(runs), ended)


def stream_key(subject: UUID | str) -> str:
    """Name the Valkey stream of a run, or of a thread's subject."""
    return f"durathread:{subject}" if str(subject).startswith((THREAD, FRAMES)) else f"durathread:run:{subject}"


def thread_subject(thread_id: UUID | str) -> str:
    """Name a thread where runs are named by their ids."""
    return f"{THREAD}{thread_id}"


def settled(run_id: UUID | str) -> str:
    """Name, on the news channel, that a thread shows what an ended run has left."""
    return f"settled:{run_id}"


def end_data(run_id: UUID | str, status: str) -> dict[str, Any]:
    """Build the data of the event that ends a stream."""
    return {"run_id": str(run_id), "status": status}
