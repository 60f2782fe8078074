"""The API as a process. `durathread api` starts it."""

import asyncio
import logging
import os
import signal
import sys
from types import FrameType

import structlog
import uvicorn

from durathread.api.app import create_app
from durathread.api.http.limits import bounded
from durathread.config.settings import Settings
from durathread.errors import Error, PartEnded
from durathread.graphs.registry import Graphs
from durathread.process import event_loop
from durathread.process.logs import configure
from durathread.process.monitoring import answering, health
from durathread.process.watchdog import Watchdog
from durathread.startup.preflight import leave, prepared, stop_at_once

log = structlog.get_logger()


class Uvicorn(uvicorn.Server):
    """Stops at once while it starts, and says nothing of the single requests that it ends when it stops."""

    def __init__(self, config: uvicorn.Config) -> None:
        """Take the configuration."""
        super().__init__(config)
        logging.getLogger("uvicorn.error").addFilter(self._is_news)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop. Before it has started there is no request to finish, and what it waits for may never come."""
        if not self.started:
            leave()
        # Uvicorn's own would raise the signal again after all is done.
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    def _is_news(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not (self.should_exit and isinstance(error, asyncio.CancelledError))


async def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    watched = _Watched()
    with answering({settings.api_health_address: {"/ok": lambda: health(watched.failure)}}):
        graphs = Graphs.load(settings.config, api_url=settings.reachable_url)
        await graphs.check()
        settings = await prepared(settings)
        config = uvicorn.Config(
            create_app(settings, graphs, on_failure=watched.give_up),
            http=bounded(settings.max_connections),
            host=settings.host,
            port=settings.port,
            # Ours.
            log_config=None,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=2,
            lifespan="on",
        )
        server = watched.server = Uvicorn(config)
        with watched.watchdog.watching():
            await server.serve()
    return 0 if server.started and watched.lost is None else 1


class _Watched:
    """How the API is, as other threads ask."""

    def __init__(self) -> None:
        """Begin with nothing that serves."""
        self.server: Uvicorn | None = None
        self.lost: PartEnded | None = None
        self.watchdog = Watchdog()

    def give_up(self, failure: PartEnded) -> None:
        """Stop: a part has ended."""
        self.lost = failure
        if self.server is not None:
            self.server.should_exit = True

    @property
    def failure(self) -> str | None:
        """Why the API serves nobody; None if all is well."""
        if self.lost is not None:
            return str(self.lost)
        if self.server is None or not self.server.started:
            return "The API has not opened what it needs."
        return self.watchdog.failure


def main(settings: Settings | None = None) -> None:
    """Run the API as this process. Does not return."""
    code = 0
    try:
        settings = settings or Settings()
        configure(settings.log_level, json=settings.log_json)
        stop_at_once()
        code = event_loop.run(serve(settings))
    except Error as error:
        log.error(str(error))
        code = 1
    except Exception:
        log.exception("The API failed")
        code = 1
    # temporalio can abort the interpreter's own exit.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
