"""The workflow that delivers the webhook of a run."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError

from durathread.temporal.connection import webhook_task_queue
from durathread.workflows.messages import DELIVER, DISCARD, WEBHOOK, Delivered, Delivery

BOOKKEEPING = RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=10))
# What an attempt may take besides waiting for the receiver, in seconds.
OVERHEAD = 30


@workflow.defn(name=WEBHOOK, sandboxed=False)
class Webhook:
    """Tries until the receiver has it, refuses it, or has had its time. Nothing waits for this."""

    @workflow.run
    async def run(self, delivery: Delivery) -> Delivered:
        """Return what the receiver answered; fails with the last failure when it is given up."""
        try:
            delivered = await self._deliver(delivery)
        except ActivityError:
            await self._discard(delivery)
            raise
        await self._discard(delivery)
        return delivered

    async def _deliver(self, delivery: Delivery) -> Delivered:
        patience = delivery.patience
        return await workflow.execute_activity(
            DELIVER,
            delivery,
            result_type=Delivered,
            task_queue=webhook_task_queue(workflow.info().task_queue),
            schedule_to_close_timeout=timedelta(seconds=patience.give_up),
            start_to_close_timeout=timedelta(seconds=patience.timeout + OVERHEAD),
            heartbeat_timeout=timedelta(seconds=5),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(seconds=patience.first_wait),
                backoff_coefficient=2,
                maximum_interval=timedelta(seconds=patience.longest_wait),
            ),
        )

    async def _discard(self, delivery: Delivery) -> None:
        """Forget what was owed. Apart from the delivery: trouble with the database does not send it twice."""
        await workflow.execute_activity(
            DISCARD, delivery.run_id, start_to_close_timeout=timedelta(seconds=30), retry_policy=BOOKKEEPING
        )
