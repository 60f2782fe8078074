"""What a worker and its companion say to each other, over a socket that only they have."""

import asyncio
import pickle
import struct
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from temporalio.service import ConnectConfig

LENGTH = struct.Struct("!I")
# The type of the failure that an attempt is handed back with. Its source is the number of the worker that died.
WORKER_DIED = "WorkerDied"


@dataclass(frozen=True)
class Connect:
    """How the worker is connected to Temporal, and the number that it is known by in the database."""

    config: ConnectConfig
    worker: int


@dataclass(frozen=True)
class Begun:
    """An attempt at an activity has begun. `timeout` is its heartbeat timeout in seconds; 0 if it has none."""

    token: bytes
    namespace: str
    timeout: float
    # How often a heartbeat shall be sent, in seconds: more often if the timeout is short.
    every: float = 1.0

    @property
    def pause(self) -> float:
        """Between two heartbeats, in seconds: one may get lost."""
        return min(self.timeout / 3, self.every)


@dataclass(frozen=True)
class Done:
    """An attempt has come to its end, which the worker is about to report."""

    token: bytes


@dataclass(frozen=True)
class Told:
    """What Temporal answered to a heartbeat: the attempt shall stop, or is not the current one any more."""

    token: bytes
    answer: Literal["cancelled", "lost"]


@dataclass(frozen=True)
class Trouble:
    """Something for the worker's log: a companion has none of its own."""

    message: str


@dataclass(frozen=True)
class Goodbye:
    """The worker ends in order: nothing of it is left to hand back."""


Message: TypeAlias = Connect | Begun | Done | Told | Trouble | Goodbye


def packed(message: Message) -> bytes:
    """Turn a message into bytes. Pickled: both ends are the same code, and the socket is theirs alone."""
    body = pickle.dumps(message)
    return LENGTH.pack(len(body)) + body


async def messages(reader: asyncio.StreamReader) -> AsyncGenerator[Message]:
    """Read messages until the other end closes the socket, or is gone."""
    while True:
        try:
            (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
            yield pickle.loads(await reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            return
