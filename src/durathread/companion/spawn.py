"""The worker's end of its companion: starts it, tells it what begins and ends, and starts another when it ends."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any, Literal

import structlog
from temporalio.client import Client
from temporalio.service import ConnectConfig

from durathread.companion.wire import Begun, Connect, Done, Goodbye, Message, Told, Trouble, messages, packed

log = structlog.get_logger()

COMMAND = "from durathread.companion.process import main; main()"
FIRST_PAUSE = 0.1
LAST_PAUSE = 30.0
# A companion that does not read what it is told is as good as none.
UNREAD = 4 * 1024 * 1024
# How often the worker's credentials are compared: they may be renewed while it runs. In seconds.
RENEWAL = 1.0
GRACE = 2.0
CONNECT = timedelta(seconds=5)
# Older versions of the SDK have no such setting.
HURRY: dict[str, Any] = (
    {"connect_timeout": CONNECT} if any(field.name == "connect_timeout" for field in fields(ConnectConfig)) else {}
)

Answer = Literal["cancelled", "lost"]


class Companions:
    """The companion that a worker process has, one after the other."""

    def __init__(self, client: Callable[[], Client], *, worker: int, every: float = 1.0) -> None:
        """Take what says the worker's client, which may be exchanged, and the worker's number in the database.

        `every` is how often an attempt's heartbeat is sent, in seconds.
        """
        self._client = client
        self._worker = worker
        self._every = every
        self._open: dict[bytes, tuple[Begun, Callable[[Answer], None]]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self.pid: int | None = None

    def begin(self, token: bytes, *, namespace: str, timeout: float, hear: Callable[[Answer], None]) -> None:
        """Have an attempt kept alive, and handed back should we die; `hear` is told what Temporal says of it."""
        begun = Begun(token, namespace, timeout, self._every)
        self._open[token] = begun, hear
        self._say(begun)

    def end(self, token: bytes) -> None:
        """Say that an attempt is done."""
        self._open.pop(token, None)
        self._say(Done(token))

    async def run(self) -> None:
        """Have a companion, and another when it ends, until cancelled."""
        pause = FIRST_PAUSE
        while True:
            since = time.monotonic()
            try:
                said = await self._one()
            except OSError as error:
                said = str(error)
            pause = FIRST_PAUSE if time.monotonic() - since > LAST_PAUSE else pause
            log.warning("The companion of this worker has ended; another is started", outcome=said)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LAST_PAUSE)

    async def _one(self) -> str:
        """Have one companion; return how it ended."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = _start(theirs.fileno())
        try:
            self.pid = process.pid
            reader, self._writer = await asyncio.open_connection(sock=ours)
            for begun, _ in self._open.values():
                self._say(begun)
            renewing = asyncio.create_task(self._connect())
            renewing.add_done_callback(self._connected)
            try:
                async for message in messages(reader):
                    self._hear(message)
            finally:
                renewing.cancel()
                self._say(Goodbye())
                self._writer.close()
        finally:
            ours.close()
            self._writer, self.pid = None, None
            said = await asyncio.shield(asyncio.to_thread(_outcome, process))
        return said

    def _hear(self, message: Message) -> None:
        match message:
            case Told():
                if known := self._open.get(message.token):
                    known[1](message.answer)
            case Trouble():
                log.warning("The companion of this worker is in trouble", error=message.message)
            case _:
                pass

    async def _connect(self) -> None:
        """Say how Temporal is reached; again whenever it is reached otherwise."""
        last: Any = None
        while True:
            service = self._client().service_client
            config = replace(service.config, rpc_metadata=dict(service.config.rpc_metadata), runtime=None)
            if (service, config) != last:
                last = service, config
                named = replace(config, identity=f"{config.identity} (companion)")
                self._say(Connect(replace(named, **HURRY), self._worker))
            await asyncio.sleep(RENEWAL)

    def _connected(self, renewing: "asyncio.Task[None]") -> None:
        """Part with a companion that cannot be told how Temporal is reached; the next is told anew."""
        if not renewing.cancelled() and self._writer is not None:
            log.error(
                "The companion of this worker cannot be told how Temporal is reached", exc_info=renewing.exception()
            )
            self._writer.transport.abort()

    def _say(self, message: Message) -> None:
        if self._writer is None or self._writer.is_closing():
            # The next companion is told of what is open.
            return
        self._writer.write(packed(message))
        if self._writer.transport.get_write_buffer_size() > UNREAD:
            self._writer.transport.abort()


def _start(fd: int) -> "subprocess.Popen[bytes]":
    # A session of its own: what a terminal sends is for the worker. What it writes is for us, and never keeps open a pipe that
    # somebody reads to see the end of the worker.
    return subprocess.Popen(
        [sys.executable, "-P", "-c", COMMAND, str(fd), str(os.getpid())],
        pass_fds=[fd],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _outcome(process: "subprocess.Popen[bytes]") -> str:
    """Wait for the end of a process that has closed its socket, and say how it ended."""
    try:
        code = process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    assert process.stderr
    with process.stderr:
        last = process.stderr.read().decode(errors="replace").strip().splitlines()[-1:]
    return " ".join([f"exit code {code}" if code >= 0 else f"signal {-code}", *last])
