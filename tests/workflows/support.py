"""What tests read from Temporal."""

from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus, WorkflowHistory
from temporalio.common import SearchAttributeKey
from temporalio.service import RPCError, RPCStatusCode

from durathread.temporal.connection import RUN_STATUS
from durathread.workflows.messages import StepOutcome
from tests.eventually import eventually


async def described(temporal: Client, workflow_id: str) -> WorkflowExecutionDescription | None:
    """Describe a workflow; None if there is none of that id."""
    try:
        return await temporal.get_workflow_handle(workflow_id).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


async def closed(
    temporal: Client,
    workflow_id: str,
    *,
    timeout: float = 30.0,  # noqa: ASYNC109
) -> WorkflowExecutionDescription:
    """Wait until a workflow has closed, and describe it."""

    async def over() -> WorkflowExecutionDescription | None:
        found = await described(temporal, workflow_id)
        return found if found and found.close_time else None

    found = await eventually(over, timeout=timeout, what=f"{workflow_id} closed")
    assert found is not None
    return found


def shown(found: WorkflowExecutionDescription) -> tuple[WorkflowExecutionStatus | None, str | None]:
    """Say how a run's workflow looks in a list: its status, and ours."""
    return found.status, attribute(found, RUN_STATUS)


def attribute(found: WorkflowExecutionDescription, key: SearchAttributeKey[str]) -> str | None:
    """Read a search attribute."""
    return found.typed_search_attributes.get(key)


async def steps(temporal: Client, run_id: str) -> list[str | None]:
    """List the summaries of a run's activities, in their order."""
    history = await temporal.get_workflow_handle(f"run/{run_id}").fetch_history()
    found: list[str | None] = []
    for event in history.events:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            assert event.activity_task_scheduled_event_attributes.activity_type.name == "step"
            payloads = [event.user_metadata.summary] if event.user_metadata.HasField("summary") else []
            [summary] = await temporal.data_converter.decode(payloads) if payloads else [None]
            found.append(summary)
    return found


async def supersteps(temporal: Client, run_id: str) -> list[list[str]]:
    """List what the activities of a run say that they have run: the nodes of each superstep."""
    history = await temporal.get_workflow_handle(f"run/{run_id}").fetch_history()
    found: list[list[str]] = []
    for event in history.events:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            payloads = list(event.activity_task_completed_event_attributes.result.payloads)
            [outcome] = await temporal.data_converter.decode(payloads, [StepOutcome])
            found.append([each.nodes for each in outcome.ran])
    return found


async def chain(temporal: Client, workflow_id: str) -> list[WorkflowHistory]:
    """Fetch the histories of a workflow that continued as new, in their order."""
    found = list[WorkflowHistory]()
    first = await described(temporal, workflow_id)
    assert first is not None
    run_id: str | None = first.raw_description.workflow_execution_info.first_run_id
    while run_id:
        history = await temporal.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()
        found.append(history)
        last = history.events[-1]
        continued = last.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW
        attributes = last.workflow_execution_continued_as_new_event_attributes
        run_id = attributes.new_execution_run_id if continued else None
    return found


async def details(temporal: Client, workflow_id: str) -> str:
    """Read the markdown that the Temporal UI shows of a workflow."""
    found: Any = await temporal.get_workflow_handle(workflow_id).query(
        "__temporal_workflow_metadata", result_type=WorkflowMetadata
    )
    return found.current_details
