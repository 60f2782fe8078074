"""The worker: executes runs. `durathread worker` starts it."""

import asyncio
import os
import signal
import socket
import sys

import structlog
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from temporalio.client import Client
from temporalio.worker import PollerBehaviorAutoscaling, Worker

from durathread.config.settings import Settings
from durathread.errors import Error
from durathread.plugin import BUILD_ID, DurathreadPlugin
from durathread.process import event_loop
from durathread.process.logs import configure
from durathread.process.monitoring import Answer, Page, answering, health
from durathread.process.watchdog import Watchdog
from durathread.startup.preflight import prepared, stop_at_once
from durathread.steps.tracing import flush
from durathread.temporal.connection import connect

log = structlog.get_logger()

# How long the end of a worker waits for what traces its runs, in seconds.
SENDING = 3.0


def build(client: Client, *, task_queue: str) -> Worker:
    """Build a worker on a client that has the plugin."""
    return Worker(
        client,
        task_queue=task_queue,
        build_id=BUILD_ID,
        workflow_task_poller_behavior=PollerBehaviorAutoscaling(minimum=2, initial=4),
        activity_task_poller_behavior=PollerBehaviorAutoscaling(minimum=2, initial=4),
    )


async def serve(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT, then let its steps finish."""
    settings = await prepared(settings)
    plugin = DurathreadPlugin(settings)
    name = f"durathread@{socket.gethostname()}:{os.getpid()}"
    watchdog = Watchdog()
    with answering(pages(settings, plugin, watchdog)):
        client = await connect(
            identity=name,
            plugins=[plugin],
            patience=settings.start_patience,
            metrics_address=settings.temporal_metrics_address,
        )
        async with build(client, task_queue=settings.task_queue):
            await plugin.ready()
            stop = asyncio.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            log.info("The worker is ready", task_queue=settings.task_queue, graphs=list(plugin.graphs))
            with watchdog.watching():
                await stop.wait()
            log.info("The worker is stopping")


def pages(settings: Settings, plugin: DurathreadPlugin, watchdog: Watchdog) -> dict[str, dict[str, Page]]:
    """List what is answered to those who watch a worker, by address and path."""
    served: dict[str, dict[str, Page]] = {}
    served.setdefault(settings.health_address, {})["/ok"] = lambda: health(plugin.failure or watchdog.failure)
    served.setdefault(settings.metrics_address, {})["/metrics"] = lambda: Answer(
        plugin.metrics(), media_type=CONTENT_TYPE_LATEST
    )
    return served


def main(settings: Settings | None = None) -> None:
    """Run a worker as this process. Does not return."""
    code = 0
    try:
        settings = settings or Settings()
        configure(settings.log_level, json=settings.log_json)
        stop_at_once()
        event_loop.run(serve(settings))
    except Error as error:
        log.error(str(error))
        code = 1
    except Exception:
        log.exception("The worker failed")
        code = 1
    flush(SENDING)
    # temporalio can abort the interpreter's own exit.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    # This file's folder is a checkout: nothing in it may shadow a user's module.
    del sys.path[0]
    main()
