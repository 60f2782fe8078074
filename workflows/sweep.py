"""The workflow that a Temporal Schedule starts: it signals runs again that nobody works on."""

from datetime import timedelta

from temporalio import workflow

from durathread.workflows.messages import SWEEP, SWEEP_RUNS
from durathread.workflows.messages import Sweep as SweepRequest


@workflow.defn(name=SWEEP, sandboxed=False)
class Sweep:
    """Closes the gap between a run's row and the signal that starts it."""

    @workflow.run
    async def run(self, request: SweepRequest) -> int:
        """Return how many runs were signalled."""
        return await workflow.execute_activity(
            SWEEP_RUNS,
            request,
            result_type=int,
            heartbeat_timeout=timedelta(seconds=30),
            start_to_close_timeout=timedelta(minutes=10),
        )
