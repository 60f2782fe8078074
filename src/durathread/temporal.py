"""Where Temporal is, and how things are named there. Workflow ids are built here and nowhere else."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from temporalio.client import Client, Plugin
from temporalio.common import SearchAttributeKey
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.service import KeepAliveConfig

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
