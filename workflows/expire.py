"""The workflow that takes away what threads have outlived. It is started when one has."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

from durathread.workflows.messages import EXPIRE, EXPIRE_THREADS, Expiration


@workflow.defn(name=EXPIRE, sandboxed=False)
class Expire:
    """Looks after the lifetimes of threads."""

    @workflow.run
    async def run(self, expiration: Expiration) -> int:
        """Return how many threads were deleted, or reduced to their latest checkpoint."""
        return await workflow.execute_activity(
            EXPIRE_THREADS,
            expiration,
            result_type=int,
            heartbeat_timeout=timedelta(seconds=30),
            start_to_close_timeout=timedelta(minutes=10),
            # What is left over is the next sweep's.
            retry_policy=RetryPolicy(maximum_attempts=3),
        )
