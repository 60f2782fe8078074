"""Where Temporal is, and how things are named there. Workflow ids are built here and nowhere else."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import structlog
from temporalio.client import Client, Interceptor, Plugin
from temporalio.common import SearchAttributeKey
from temporalio.envconfig import ClientConfig
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import GrpcCompression, KeepAliveConfig, RPCError, RPCStatusCode, ServiceClient

from durathread.errors import ConfigError, Unavailable

log = structlog.get_logger()

T = TypeVar("T")

THREAD_ID = SearchAttributeKey.for_keyword("ThreadId")
ASSISTANT_ID = SearchAttributeKey.for_keyword("AssistantId")
GRAPH_ID = SearchAttributeKey.for_keyword("GraphId")
RUN_STATUS = SearchAttributeKey.for_keyword("RunStatus")

SEARCH_ATTRIBUTES = (THREAD_ID, ASSISTANT_ID, GRAPH_ID, RUN_STATUS)

CRON_PREFIX = "cron/"

# How long a client waits for an answer before it is told that nothing can be started.
RPC_TIMEOUT = timedelta(seconds=5)

# Pauses between attempts to reach Temporal, in seconds.
FIRST_PAUSE, LAST_PAUSE = 0.5, 2.0
# How long it may be busy, and how long the first pause is before it is asked again, in seconds. The SDK has tried before us.
BUSY_FOR, BUSY_PAUSE = 2.0, 0.1
MESSAGE = re.compile(r'message: "([^"]+)"')


def thread_workflow_id(thread_id: UUID | str) -> str:
    """Name the workflow of a thread."""
    return f"thread/{thread_id}"


def run_workflow_id(run_id: UUID | str) -> str:
    """Name the workflow of a run."""
    return f"run/{run_id}"


def webhook_workflow_id(run_id: UUID | str) -> str:
    """Name the workflow that delivers the webhook of a run."""
    return f"webhook/{run_id}"


def webhook_task_queue(task_queue: str) -> str:
    """Name the task queue of the deliveries, beside that of everything else: a receiver that hangs holds no step."""
    return f"{task_queue}/webhooks"


def cron_schedule_id(cron_id: UUID | str) -> str:
    """Name the schedule of a cron. Its workflows are named so too, followed by the time."""
    return f"{CRON_PREFIX}{cron_id}"


def cron_id_of(schedule_id: str) -> UUID | None:
    """Return the cron whose schedule is named so; None if it is no cron's."""
    if not schedule_id.startswith(CRON_PREFIX):
        return None
    try:
        return UUID(schedule_id.removeprefix(CRON_PREFIX))
    except ValueError:
        return None


def sweep_workflow_id(task_queue: str) -> str:
    """Name the workflow that finds what a deployment has lost sight of. Earlier versions had a schedule of that name."""
    return f"{task_queue}/sweep"


def expire_workflow_id(task_queue: str) -> str:
    """Name the workflow that looks after the lifetimes of threads. Earlier versions had a schedule of that name."""
    return f"{task_queue}/expire"


def owner_schedule_id(task_queue: str) -> str:
    """Name the schedule, which starts nothing, that says whose a task queue is."""
    return f"{task_queue}/owner"


def address_of(client: Client) -> str:
    """Say where a client is connected to."""
    return client.service_client.config.target_host


def unavailable(error: RPCError, detail: str) -> Unavailable:
    """Log what Temporal has answered, which is not for clients, and build the error that is."""
    log.warning("Temporal did not take a request", status=error.status.name, error=error.message, consequence=detail)
    return Unavailable(f"{detail}: Temporal is {'busy; try again.' if is_busy(error) else 'unavailable.'}")


def is_busy(error: RPCError) -> bool:
    """Say whether Temporal is there, but works on the same workflow just now, or is asked more than its limits allow."""
    return error.status is RPCStatusCode.RESOURCE_EXHAUSTED


async def unhurried(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask Temporal something, again after a moment while it is busy.

    Raises:
        RPCError: it refuses, is away, or stays busy.
    """
    end, pause = time.monotonic() + BUSY_FOR, BUSY_PAUSE
    while True:
        try:
            return await ask()
        except RPCError as error:
            if not is_busy(error) or time.monotonic() + pause > end:
                raise
        await asyncio.sleep(pause)
        pause *= 2


async def connect(
    *,
    identity: str | None = None,
    plugins: Sequence[Plugin] = (),
    interceptors: Sequence[Interceptor] = (),
    patience: float = 0,
    metrics_address: str = "",
) -> Client:
    """Connect as `TEMPORAL_*` says; without any of it, to localhost:7233.

    Raises:
        ConfigError: what the SDK measures cannot be served on `metrics_address`.
        Unavailable: Temporal cannot be reached, for `patience` seconds.
    """
    config: dict[str, Any] = dict(ClientConfig.load_client_connect_config())
    config.setdefault("target_host", "localhost:7233")
    config |= {
        "plugins": list(plugins),
        "interceptors": list(interceptors),
        "identity": identity,
        "runtime": _runtime(metrics_address),
        # Messages are small: compressing them costs more than sending them.
        "grpc_compression": GrpcCompression.NONE,
        "keep_alive_config": KeepAliveConfig(interval_millis=5000, timeout_millis=5000),
    }
    end, pause = time.monotonic() + patience, FIRST_PAUSE
    while True:
        try:
            return await Client.connect(**config)
        except RuntimeError as error:
            why = f"Temporal at {config['target_host']} cannot be reached: {_reason(error)}"
            if time.monotonic() + pause > end:
                raise Unavailable(why) from error
            log.warning("Temporal cannot be reached yet", address=config["target_host"], error=_reason(error))
            await asyncio.sleep(pause)
            pause = min(pause * 2, LAST_PAUSE)


def _runtime(metrics_address: str) -> Runtime:
    served = PrometheusConfig(bind_address=metrics_address, durations_as_seconds=True) if metrics_address else None
    try:
        return Runtime(telemetry=TelemetryConfig(metrics=served))
    except ValueError as error:
        raise ConfigError(f"Temporal's metrics cannot be served on {metrics_address}: {error}") from error


def _reason(error: RuntimeError) -> str:
    """Shorten what the SDK says, which is a Rust structure in words."""
    found = MESSAGE.search(str(error))
    return found[1] if found else str(error).partition("\n")[0].partition("(")[0]


async def connect_as(client: Client) -> Client:
    """Connect once more, on the running loop, as another client is connected.

    Raises:
        RuntimeError: Temporal cannot be reached.
    """
    service = await ServiceClient.connect(client.service_client.config)
    config: dict[str, Any] = {**client.config(active_config=True), "service_client": service, "plugins": []}
    return Client(**config)
