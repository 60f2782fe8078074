"""Where Temporal is, and how things are named there. Workflow ids are built here and nowhere else."""

import asyncio
import time
from typing import Any
from uuid import UUID

import structlog
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client, Plugin
from temporalio.common import SearchAttributeKey
from temporalio.envconfig import ClientConfig
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.service import GrpcCompression, KeepAliveConfig, RPCError, ServiceClient

from durathread.errors import Unavailable

log = structlog.get_logger()

THREAD_ID = SearchAttributeKey.for_keyword("ThreadId")
ASSISTANT_ID = SearchAttributeKey.for_keyword("AssistantId")
GRAPH_ID = SearchAttributeKey.for_keyword("GraphId")
RUN_STATUS = SearchAttributeKey.for_keyword("RunStatus")

SEARCH_ATTRIBUTES = (THREAD_ID, ASSISTANT_ID, GRAPH_ID, RUN_STATUS)

CRON_PREFIX = "cron/"

# How long a role that starts waits for Temporal: after a crash of everything, all start at once. In seconds.
START_PATIENCE = 60.0
RETRY = 0.5


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
    """Name the schedule of a cron. Its workflows are named so too, with the time behind it."""
    return f"{CRON_PREFIX}{cron_id}"


def cron_id_of(schedule_id: str) -> UUID | None:
    """Return the cron whose schedule is named so; None if it is no cron's."""
    if not schedule_id.startswith(CRON_PREFIX):
        return None
    try:
        return UUID(schedule_id.removeprefix(CRON_PREFIX))
    except ValueError:
        return None


def sweep_schedule_id(task_queue: str) -> str:
    """Name the schedule, and the workflow, that finds what a deployment has lost sight of."""
    return f"{task_queue}/sweep"


def expire_schedule_id(task_queue: str) -> str:
    """Name the schedule, and the workflow, that looks after the lifetimes of a deployment's threads."""
    return f"{task_queue}/expire"


async def connect(*, identity: str | None = None, plugins: list[Plugin] | None = None, patience: float = 0) -> Client:
    """Connect as `TEMPORAL_*` says; without any of it, to localhost:7233.

    Raises:
        RuntimeError: Temporal cannot be reached, for `patience` seconds.
    """
    config: dict[str, Any] = dict(ClientConfig.load_client_connect_config())
    config.setdefault("target_host", "localhost:7233")
    if plugins:
        config["plugins"] = plugins
    config |= {
        "identity": identity,
        "runtime": Runtime(telemetry=TelemetryConfig()),
        # Messages are small: compressing them costs more than sending them.
        "grpc_compression": GrpcCompression.NONE,
        "keep_alive_config": KeepAliveConfig(interval_millis=5000, timeout_millis=5000),
    }
    end = time.monotonic() + patience
    while True:
        try:
            return await Client.connect(**config)
        except RuntimeError as error:
            if time.monotonic() > end:
                raise
            log.warning("Temporal cannot be reached yet", error=str(error).partition(":")[0])
            await asyncio.sleep(RETRY)


async def connect_as(client: Client) -> Client:
    """Connect once more, on the running loop, as another client is connected.

    Raises:
        RuntimeError: Temporal cannot be reached.
    """
    service = await ServiceClient.connect(client.service_client.config)
    config: dict[str, Any] = {**client.config(active_config=True), "service_client": service, "plugins": []}
    return Client(**config)


async def register_search_attributes() -> None:
    """Make the attributes that our workflows carry known to Temporal. Doing it again changes nothing.

    Raises:
        Unavailable: Temporal cannot be reached, or refuses.
    """
    try:
        client = await connect()
        keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(
                namespace=client.namespace, search_attributes={key.name: keyword for key in SEARCH_ATTRIBUTES}
            )
        )
    except (RPCError, RuntimeError) as error:
        raise Unavailable(f"The search attributes could not be registered with Temporal: {error}") from error
