"""Sends runs and cancellations to the workflows of their threads."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import httpx
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import (
    Priority,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import CancelledError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from durathread.db.outbox import Addressed
from durathread.errors import NotFound
from durathread.temporal.connection import (
    ASSISTANT_ID,
    GRAPH_ID,
    RPC_TIMEOUT,
    RUN_STATUS,
    THREAD_ID,
    run_workflow_id,
    thread_workflow_id,
    unavailable,
    unhurried,
    webhook_workflow_id,
)
from durathread.workflows.messages import (
    HELD,
    THREAD,
    WEBHOOK,
    Cancellation,
    Closing,
    Delivery,
    Patience,
    RunOutcome,
    RunRequest,
    ThreadState,
)

# How often it is asked whether a run has begun, in seconds.
LOOK_AGAIN = 0.2

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
                rpc_timeout=RPC_TIMEOUT,
            )
        )
    except RPCError as error:
        raise unavailable(error, DOWN) from error


class StartedRun:
    """A run that was sent to its thread."""

    def __init__(self, client: Client, request: RunRequest) -> None:
        """Name the run."""
        self.thread_id, self.run_id = request.thread_id, request.run_id
        self._client = client

    async def wait(self) -> str:
        """Wait until the run has ended, and return its status: `success`, `error`, `timeout`, `interrupted` or `rollback`.

        May be called again, and elsewhere, by an activity that is repeated.

        Raises:
            NotFound: the thread refused the run, or the run was taken back before it began.
        """
        run = self._client.get_workflow_handle(run_workflow_id(self.run_id), result_type=RunOutcome)
        while True:
            waits = await self._is_held()
            try:
                return (await run.result()).status
            except WorkflowFailureError as error:
                return "interrupted" if isinstance(error.cause, CancelledError) else "error"
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
            if not waits:
                raise NotFound(f"Thread {self.thread_id} has not begun run {self.run_id}, and will not.")
            await asyncio.sleep(LOOK_AGAIN)

    async def _is_held(self) -> bool:
        thread = self._client.get_workflow_handle(thread_workflow_id(self.thread_id))
        return self.run_id in await thread.query(HELD, result_type=list[str])


async def start_run(client: Client, request: RunRequest, *, task_queue: str) -> StartedRun:
    """Send a run to its thread from wherever there is a Temporal client: an activity, a script, another server.

    The thread admits the run by its strategy, as the API does. To send it again (`run_id` says which it is) changes nothing, so
    an activity that does may be repeated.

    Args:
        client: of the namespace that the workers are in.
        request: the run. Its `payload` is a body of `POST /threads/{thread_id}/runs`, with `"if_not_exists": "create"` for a
            thread that may be new.
        task_queue: of the workers that serve the graph.

    Raises:
        Unavailable: Temporal did not take the signal.
    """
    await send(client, request, task_queue=task_queue)
    return StartedRun(client, request)


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
                rpc_timeout=RPC_TIMEOUT,
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
