"""The API as a process. `durathread api` starts it."""

import asyncio
import logging
import os
import signal
import sys
from types import FrameType

import structlog
import uvicorn

from durathread import event_loop
from durathread.api.app import create_app
from durathread.errors import Error, PartEnded
from durathread.graphs import Graphs
from durathread.logs import configure
from durathread.preflight import leave, prepared, stop_at_once
from durathread.settings import Settings

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
    graphs = Graphs.load(settings.config, api_url=settings.reachable_url)
    await graphs.check()
    settings = await prepared(settings)
    lost: list[PartEnded] = []

    def give_up(failure: PartEnded) -> None:
        lost.append(failure)
        server.should_exit = True

    config = uvicorn.Config(
        create_app(settings, graphs, on_failure=give_up),
        host=settings.host,
        port=settings.port,
        # Ours.
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
        lifespan="on",
    )
    server = Uvicorn(config)
    await server.serve()
    return 0 if server.started and not lost else 1


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
