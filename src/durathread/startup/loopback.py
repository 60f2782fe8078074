"""The API inside of a worker, for the clients that its nodes make without a URL.

It has a thread, an event loop and connections of its own: the worker's loop talks to Temporal and may run no code of users,
as the API does when it opens a graph, and the graphs' loop may be blocked by a node. It is imported, and opens, when the first
client asks: that is a fifth of what a worker would import before it can take up the work of one that was killed.
"""

import asyncio
import contextlib
import importlib
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from typing import Any

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send
from temporalio.client import Client
from temporalio.worker import Worker

from durathread.config.settings import Settings
from durathread.graphs.registry import Graphs
from durathread.inprocess import clients
from durathread.process import event_loop
from durathread.process.lifecycle import Owner
from durathread.temporal.connection import connect_as

log = structlog.get_logger()

# How long a worker that stops waits for its API to close, in seconds.
JOIN_PATIENCE = 5.0


class Home:
    """The thread in which the API runs."""

    def __init__(self, settings: Settings, graphs: Graphs, client: Client) -> None:
        """Start the thread."""
        self.app: Future[ASGIApp] = Future()
        self._settings = settings
        self._graphs = graphs
        self._client = client
        self._loop = event_loop.EventLoop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="api for clients inside", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._serve())
            except Exception as error:  # noqa: BLE001, it goes to whoever waits
                with contextlib.suppress(Exception):
                    self.app.set_exception(error)

    async def _serve(self) -> None:
        temporal = await connect_as(self._client)
        owner = Owner()
        async with _api().opened(self._settings, self._graphs, owner=owner, temporal=temporal) as app:
            self.app.set_result(app)
            log.info("The API answers clients in this worker")
            await owner.during(self._stop.wait())

    @property
    def is_lost(self) -> bool:
        """Whether it could not be opened, or has ended since."""
        return self.app.done() and (self.app.exception() is not None or not self._thread.is_alive())

    def close(self) -> None:
        """Close it, and wait for that."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(JOIN_PATIENCE)


class Loopback:
    """The API as an ASGI app that may be called from any event loop."""

    def __init__(self, settings: Settings, graphs: Graphs, client: Client) -> None:
        """Open nothing yet."""
        self._settings = settings
        self._graphs = graphs
        self._client = client
        self._lock = threading.Lock()
        self._home: Home | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        try:
            app = await asyncio.shield(asyncio.wrap_future(self._opened().app))
        except Exception as error:  # noqa: BLE001, an engine is away: the next request tries again
            log.warning("The API could not be opened for a client in this worker", error=repr(error))
            await _api().away()(scope, receive, send)
            return
        await app(scope, receive, send)

    def _opened(self) -> Home:
        with self._lock:
            if self._home is None or self._home.is_lost:
                self._home = Home(self._settings, self._graphs, self._client)
            return self._home

    async def aclose(self) -> None:
        """Close what was opened."""
        with self._lock:
            home, self._home = self._home, None
        if home is not None:
            await asyncio.to_thread(home.close)


def _api() -> Any:
    return importlib.import_module("durathread.api.inside")


@contextlib.asynccontextmanager
async def serving_inside(settings: Settings, graphs: Graphs, worker: Worker) -> AsyncGenerator[None]:
    """Answer the clients that are made without a URL in a worker's process, for as long as the block lasts."""
    own = settings.model_copy(update={"task_queue": worker.task_queue})
    loopback = Loopback(own, graphs, worker.client)
    clients.serve(loopback)
    try:
        yield
    finally:
        clients.withdraw(loopback)
        await loopback.aclose()
