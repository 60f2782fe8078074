"""The API as a process. `durathread api` starts it."""

import asyncio
import os
import sys

import structlog
import uvicorn

from durathread import event_loop
from durathread.api.app import create_app
from durathread.errors import Error, PartEnded
from durathread.graphs import Graphs
from durathread.logs import configure
from durathread.preflight import prepared, unless_stopped
from durathread.settings import Settings

log = structlog.get_logger()


async def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    graphs = Graphs.load(settings.config, api_url=settings.reachable_url)
    await graphs.check()
    found = await unless_stopped(prepared(settings))
    if found is None:
        return 0
    settings = found
    lost: list[PartEnded] = []

    def give_up(failure: PartEnded) -> None:
        lost.append(failure)
        server.should_exit = True

    config = uvicorn.Config(
        create_app(settings, graphs, on_failure=give_up),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
        lifespan="on",
    )
    server = uvicorn.Server(config)
    await server.serve()
    return 0 if server.started and not lost else 1


def main(settings: Settings | None = None) -> None:
    """Run the API as this process. Does not return."""
    code = 0
    try:
        settings = settings or Settings()
        configure(settings.log_level, json=settings.log_json)
        code = event_loop.run(serve(settings))
    except Error as error:
        log.error(str(error))
        code = 1
    except asyncio.CancelledError:
        code = 0
    except Exception:
        log.exception("The API failed")
        code = 1
    # temporalio can abort the interpreter's own exit.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
