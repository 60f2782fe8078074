"""Sends runs and cancellations to the workflows of their threads."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import httpx
from temporalio.client import Client
from temporalio.common import (
    Priority,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from durathread.store.outbox import Addressed
from durathread.temporal import (
    ASSISTANT_ID,
    GRAPH_ID,
    RUN_STATUS,
    THREAD_ID,
    thread_workflow_id,
    unavailable,
    unhurried,
    webhook_workflow_id,
)
from durathread.workflows.messages import (
    THREAD,
    WEBHOOK,
    Cancellation,
    Closing,
    Delivery,
    Patience,
    RunRequest,
    ThreadState,
)

# How long a client waits before it is told that nothing can be started.
PATIENCE = timedelta(seconds=5)

DOWN = "The run cannot be started"


async def send(client: Client, request: RunRequest, *, task_queue: str) -> None:
    """Signal a run to its thread, whose workflow is started if it is not there.

    Raises:
        Unavailable: Temporal did not take the signal.
    """
    attributes = TypedSearchAttributes(
        [
            SearchAttributePair(THREAD_ID, request.thread_id),
            SearchAttributePair(ASSISTANT_ID, request.assistant_id),
            SearchAttributePair(GRAPH_ID, request.graph_id),
        ]
    )
    try:
        await unhurried(
            lambda: client.start_workflow(
                THREAD,
                ThreadState(),
                id=thread_workflow_id(request.thread_id),
                task_queue=task_queue,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                search_attributes=attributes,
                static_summary=request.graph_id,
                start_signal="new_run",
                start_signal_args=[request],
                priority=Priority(fairness_key=request.fairness) if request.fairness else Priority.default,
                rpc_timeout=PATIENCE,
            )
        )
    except RPCError as error:
        raise unavailable(error, DOWN) from error


async def notify(client: Client, owed: Addressed, *, task_queue: str, patience: Patience) -> bool:
    """Start the workflow that delivers a webhook, unless it is there; say whether it may still deliver.

    Raises:
        Unavailable: Temporal did not take it.
    """
    attributes = TypedSearchAttributes(
        [
            SearchAttributePair(THREAD_ID, str(owed.thread_id)),
            SearchAttributePair(ASSISTANT_ID, str(owed.assistant_id)),
            SearchAttributePair(GRAPH_ID, owed.graph_id),
            SearchAttributePair(RUN_STATUS, owed.status),
        ]
    )
    try:
        await unhurried(
            lambda: client.start_workflow(
                WEBHOOK,
                Delivery(str(owed.run_id), patience),
                id=webhook_workflow_id(owed.run_id),
                task_queue=task_queue,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                search_attributes=attributes,
                # Not the whole URL: it may hold a token.
                static_summary=f"{owed.status} · {httpx.URL(owed.url).host or owed.url.partition('?')[0]}"[:200],
                rpc_timeout=PATIENCE,
            )
        )
    except WorkflowAlreadyStartedError:
        return False
    except RPCError as error:
        raise unavailable(error, DOWN) from error
    return True


async def stop(client: Client, thread_id: UUID, *, run_ids: Sequence[UUID], reason: str) -> None:
    """Tell a thread's workflow that runs have been ended.

    Raises:
        Unavailable: Temporal did not take the signal.
    """
    await _signal(client, thread_id, "cancel_runs", Cancellation([str(run) for run in run_ids], reason))


async def close(client: Client, thread_id: UUID, *, upto: int) -> None:
    """Tell a thread's workflow that its thread has been deleted, with all runs of admission numbers up to one.

    Raises:
        Unavailable: Temporal did not take the signal.
    """
    await _signal(client, thread_id, "close", Closing(upto))


async def _signal(client: Client, thread_id: UUID, name: str, *args: object) -> None:
    try:
        handle = client.get_workflow_handle(thread_workflow_id(thread_id))
        await unhurried(lambda: handle.signal(name, args=list(args)))
    except RPCError as error:
        # A thread without a workflow has nothing to stop.
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise unavailable(error, DOWN) from error
