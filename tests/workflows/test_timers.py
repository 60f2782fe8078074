"""Timers of the engines that we start: what is repeated after a death waits for one."""

import time
from uuid import uuid4

from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

NAPS = 10


@workflow.defn
class Napping:
    """Sleeps again and again, a moment each time."""

    @workflow.run
    async def run(self) -> None:
        for _ in range(NAPS):
            await workflow.sleep(0.01)


async def test_a_short_timer_is_not_made_a_second_long(temporal: Client) -> None:
    client = await Client.connect(temporal.service_client.config.target_host)
    queue = f"naps-{uuid4()}"
    async with Worker(client, task_queue=queue, workflows=[Napping], workflow_runner=UnsandboxedWorkflowRunner()):
        since = time.monotonic()
        await client.execute_workflow(Napping.run, id=queue, task_queue=queue)
    # A second each, if Temporal looks that far ahead.
    assert time.monotonic() - since < NAPS * 0.6
