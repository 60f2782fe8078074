"""Where Temporal is, and how things are named there. Workflow ids are built here and nowhere else."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from temporalio.client import Client, Plugin
from temporalio.common import SearchAttributeKey
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.service import GrpcCompression, KeepAliveConfig

THREAD_ID = SearchAttributeKey.for_keyword("ThreadId")
ASSISTANT_ID = SearchAttributeKey.for_keyword("AssistantId")
GRAPH_ID = SearchAttributeKey.for_keyword("GraphId")
RUN_STATUS = SearchAttributeKey.for_keyword("RunStatus")

SEARCH_ATTRIBUTES = (THREAD_ID, ASSISTANT_ID, GRAPH_ID, RUN_STATUS)

SWEEP_ID = "durathread/sweep"


def thread_workflow_id(thread_id: UUID | str) -> str:
    """Name the workflow of a thread."""
    return f"thread/{thread_id}"


def run_workflow_id(run_id: UUID | str) -> str:
    """Name the workflow of a run."""
    return f"run/{run_id}"


async def connect(*, identity: str | None = None, plugins: list[Plugin] | None = None) -> Client:
    """Connect as `TEMPORAL_*` says; without any of it, to localhost:7233.

    Raises:
        RuntimeError: Temporal cannot be reached.
    """
    config: dict[str, Any] = dict(ClientConfig.load_client_connect_config())
    config.setdefault("target_host", "localhost:7233")
    if plugins:
        config["plugins"] = plugins
    else:
        config["data_converter"] = pydantic_data_converter
    return await Client.connect(
        **config,
        identity=identity,
        runtime=Runtime(telemetry=TelemetryConfig()),
        # Messages are small: compressing them costs more than sending them.
        grpc_compression=GrpcCompression.NONE,
        keep_alive_config=KeepAliveConfig(interval_millis=5000, timeout_millis=5000),
    )


def seconds(value: float) -> timedelta:
    """Turn seconds into what Temporal takes."""
    return timedelta(seconds=value)
