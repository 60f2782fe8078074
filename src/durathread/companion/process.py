"""The process that a worker has beside it: it sends the worker's heartbeats, and hands back what a dead worker had.

It imports little, so that it starts fast and stays small, and it runs no code of users: nothing there can stop it.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure
from temporalio.api.workflowservice.v1 import (
    RecordActivityTaskHeartbeatRequest,
    RecordActivityTaskHeartbeatResponse,
    RespondActivityTaskFailedRequest,
)
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.service import RPCError, RPCStatusCode, ServiceClient

from durathread.companion.wire import (
    WORKER_DIED,
    Begun,
    Connect,
    Done,
    Goodbye,
    Message,
    Told,
    Trouble,
    messages,
    packed,
)

# How long Temporal may take when it is told of a death, and between attempts to reach it, in seconds.
BRIEF = 1.0
# An attempt that is done may be handed back for so long: its worker may die before it has reported. In seconds.
LINGER = 3.0
# What is handed back when a worker has died must be so within this time; after it, a timeout does the same. In seconds.
LAST_WORDS = 10.0
RECONNECT_PAUSE = 0.2
AT_ONCE = 50
# How long a death that shows on the socket may take to show on the process; and after it, for the last messages to come. A
# process that was forked by the worker may keep the socket open.
CLOSED = 1.0
DRAINED = 0.1


class Companion:
    """Acts for one worker process."""

    def __init__(self, sock: socket.socket, parent: int) -> None:
        """Take the socket to the worker, and its process number."""
        self._sock = sock
        self._parent = parent
        self._open: dict[bytes, Begun] = {}
        self._beats: dict[bytes, asyncio.Task[None]] = {}
        self._client: asyncio.Future[ServiceClient] = asyncio.get_running_loop().create_future()
        self._connecting: asyncio.Task[None] | None = None
        self._worker = 0
        self._dismissed = False
        self._runtime = Runtime(telemetry=TelemetryConfig(logging=LoggingConfig(TelemetryFilter("ERROR", "ERROR"))))
        self._frozen = Frozen(parent)

    async def run(self) -> None:
        """Serve the worker until it closes the socket, or dies."""
        reader, self._writer = await asyncio.open_connection(sock=self._sock)
        listening = asyncio.create_task(self._listen(reader))
        dying = asyncio.create_task(death(self._parent))
        await asyncio.wait([listening, dying], return_when=asyncio.FIRST_COMPLETED)
        if self._dismissed:
            return
        # Either may be seen first. A worker that lives has just closed the socket: it is done with us.
        await asyncio.wait([listening, dying], timeout=DRAINED if dying.done() else CLOSED)
        if dying.done():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hand_back(), LAST_WORDS)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        async for message in messages(reader):
            match message:
                case Connect():
                    self._worker = message.worker
                    if self._connecting:
                        self._connecting.cancel()
                    self._connecting = asyncio.create_task(self._connect(message))
                case Begun():
                    known = message.token in self._open
                    self._open[message.token] = message
                    if message.timeout and not known:
                        self._beats[message.token] = asyncio.create_task(self._beat(message))
                case Done():
                    self._done(message.token)
                case Goodbye():
                    self._dismissed = True
                    return
                case _:
                    pass

    def _done(self, token: bytes) -> None:
        if beat := self._beats.pop(token, None):
            beat.cancel()
        asyncio.get_running_loop().call_later(LINGER, self._open.pop, token, None)

    async def _connect(self, connect: Connect) -> None:
        config = replace(connect.config, runtime=self._runtime, lazy=False)
        while True:
            try:
                client = await ServiceClient.connect(config)
            except RuntimeError as error:
                self._say(Trouble(f"Temporal cannot be reached: {error}"))
                await asyncio.sleep(BRIEF)
                continue
            if self._client.done():
                self._client = asyncio.get_running_loop().create_future()
            self._client.set_result(client)
            return

    def _say(self, message: Message) -> None:
        self._writer.write(packed(message))

    async def _beat(self, begun: Begun) -> None:
        """Keep an attempt alive while its worker is. Not at once: most are over before, and each beat is a write."""
        told = False
        while True:
            await asyncio.sleep(begun.pause)
            if self._frozen():
                continue
            try:
                answer = await self._heartbeat(begun)
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    return self._say(Told(begun.token, "lost"))
                continue
            if not told and (answer.cancel_requested or answer.activity_paused or answer.activity_reset):
                # It goes on: the attempt has its time to stop.
                told = True
                self._say(Told(begun.token, "cancelled"))

    async def _heartbeat(self, begun: Begun) -> RecordActivityTaskHeartbeatResponse:
        client = await asyncio.shield(self._client)
        request = RecordActivityTaskHeartbeatRequest(
            task_token=begun.token, namespace=begun.namespace, identity=client.config.identity
        )
        return await client.workflow_service.record_activity_task_heartbeat(
            request, retry=False, timeout=_seconds(begun.timeout / 2)
        )

    async def _hand_back(self) -> None:
        """Have Temporal repeat what the worker had, without waiting for a timeout."""
        turn = asyncio.Semaphore(AT_ONCE)

        async def one(begun: Begun) -> None:
            async with turn:
                await until_said(lambda: self._fail(begun))

        for beat in self._beats.values():
            beat.cancel()
        await asyncio.gather(*(one(begun) for begun in list(self._open.values())))

    async def _fail(self, begun: Begun) -> None:
        client = await asyncio.shield(self._client)
        failure = Failure(
            message="The worker process died.",
            source=str(self._worker),
            application_failure_info=ApplicationFailureInfo(type=WORKER_DIED),
        )
        request = RespondActivityTaskFailedRequest(
            task_token=begun.token, namespace=begun.namespace, identity=client.config.identity, failure=failure
        )
        await client.workflow_service.respond_activity_task_failed(request, retry=False, timeout=_seconds(BRIEF))


async def until_said(say: Callable[[], Awaitable[None]]) -> None:
    """Repeat a call until Temporal has heard it, or has nothing to do with it any more."""
    final = (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.PERMISSION_DENIED)
    while True:
        try:
            return await say()
        except RPCError as error:
            if error.status in final:
                return None
        await asyncio.sleep(RECONNECT_PAUSE)


async def death(pid: int) -> None:
    """Wait until a process has died: at once where the kernel tells, else it is asked several times a second."""
    loop, died = asyncio.get_running_loop(), asyncio.Event()
    try:
        fd = os.pidfd_open(pid) if sys.platform == "linux" else -1
    except OSError:
        # It is gone, or the kernel does not have this, or a sandbox forbids it.
        fd = -1
    if fd >= 0:
        loop.add_reader(fd, died.set)
    while os.getppid() == pid and not died.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(died.wait(), 60 if fd >= 0 else RECONNECT_PAUSE)


class Frozen:
    """Says whether a process is stopped by a signal (SIGSTOP, Ctrl-Z): it may never go on.

    One that a debugger holds, or that holds the GIL for long, is alive.
    """

    def __init__(self, pid: int) -> None:
        """Name the process."""
        self._pid = pid
        self._stat = Path(f"/proc/{pid}/stat")
        self._at = 0.0
        self._is = False

    def __call__(self) -> bool:
        """Look at the process, at most ten times a second."""
        if time.monotonic() - self._at > 0.1:
            self._is = self._state() == "T"
            self._at = time.monotonic()
        return self._is

    def _state(self) -> str:
        if sys.platform == "linux":
            try:
                # The name, in parentheses, may hold anything.
                return self._stat.read_text().rpartition(")")[2].split()[0]
            except OSError:
                return ""
        command = ["ps", "-o", "state=", "-p", str(self._pid)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()[:1]


def _seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def main() -> None:
    """Run as a worker's companion: `FD PARENT`. Does not return."""
    # It ends with its worker, which may still work when a terminal, or a service manager, has told both to stop.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    fd, parent = (int(value) for value in sys.argv[1:3])

    async def run() -> None:
        await Companion(socket.socket(fileno=fd), parent).run()

    code = 0
    try:
        asyncio.run(run())
    except BaseException:  # noqa: BLE001, its worker reads what it wrote
        traceback.print_exc()
        sys.stderr.flush()
        code = 1
    # temporalio can abort the interpreter's own exit.
    os._exit(code)
