"""The workflow that repairs what a crash has left between Postgres and Temporal. It is started when there may be something."""

from datetime import timedelta

from temporalio import workflow

from durathread.workflows import priorities
from durathread.workflows.messages import SWEEP, SWEEP_CRONS, SWEEP_RUNS
from durathread.workflows.messages import Sweep as SweepRequest


@workflow.defn(name=SWEEP, sandboxed=False)
class Sweep:
    """Closes the gaps between a run's row and the signal that starts it, a cron's row and its schedule."""

    @workflow.run
    async def run(self, request: SweepRequest) -> int:
        """Return how many runs were signalled."""
        count = await workflow.execute_activity(
            SWEEP_RUNS,
            request,
            result_type=int,
            heartbeat_timeout=timedelta(seconds=30),
            start_to_close_timeout=timedelta(minutes=10),
            priority=priorities.SOON_OVER,
        )
        if request.crons and workflow.patched("crons"):
            await workflow.execute_activity(
                SWEEP_CRONS,
                result_type=int,
                heartbeat_timeout=timedelta(seconds=30),
                start_to_close_timeout=timedelta(minutes=10),
                priority=priorities.SOON_OVER,
            )
        return count
