"""Somebody else's workflow, which lives beside ours and sends runs to threads."""

from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy, WorkflowIDConflictPolicy

with workflow.unsafe.imports_passed_through():
    from durathread.workflows.messages import RunRequest


@activity.defn
async def send_run(request: RunRequest, task_queue: str) -> None:
    """Signal a run to its thread, whose workflow may not exist yet."""
    await activity.client().start_workflow(
        "Thread",
        id=f"thread/{request.thread_id}",
        task_queue=task_queue,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        start_signal="new_run",
        start_signal_args=[request],
    )


@workflow.defn
class Neighbour:
    """Sends a run to a thread: to one that is there, or, by way of an activity, to any."""

    @workflow.run
    async def run(self, request: RunRequest, task_queue: str | None = None) -> str:
        """Send a run."""
        if task_queue is None:
            thread = workflow.get_external_workflow_handle(f"thread/{request.thread_id}")
            await thread.signal("new_run", request)
        else:
            await workflow.execute_activity(
                send_run,
                args=[request, task_queue],
                start_to_close_timeout=timedelta(seconds=10),
                retry_policy=RetryPolicy(maximum_attempts=3),
            )
        return request.run_id
