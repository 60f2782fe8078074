"""What the tests of crons do again and again."""

from datetime import UTC, datetime, timedelta
from typing import Any

from langgraph_sdk.client import LangGraphClient
from temporalio.client import Client, ScheduleActionExecutionStartWorkflow, ScheduleOverlapPolicy
from temporalio.service import RPCError, RPCStatusCode

from durathread.workflows.messages import Fired
from tests.eventually import eventually

# Far away: tests say themselves when it is due.
YEARLY = "0 0 1 1 *"


async def create(client: LangGraphClient, *, do: Any = None, log: str = "cron", **options: Any) -> Any:
    """Create a cron that has a thread of its own each time it fires, or with `thread_id` one on a thread."""
    thread_id, schedule = options.pop("thread_id", None), options.pop("schedule", YEARLY)
    given: Any = {"schedule": schedule, "input": {"log": [log], "do": do or {}}, **options}
    if thread_id:
        return await client.crons.create_for_thread(thread_id, "agent", **given)
    return await client.crons.create("agent", **given)


async def exists(temporal: Client, cron_id: str) -> bool:
    """Say whether a cron has a schedule."""
    try:
        await temporal.get_schedule_handle(f"cron/{cron_id}").describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True


async def trigger(temporal: Client, cron_id: str) -> None:
    """Make a cron due now."""
    await temporal.get_schedule_handle(f"cron/{cron_id}").trigger(overlap=ScheduleOverlapPolicy.ALLOW_ALL)


async def workflows(temporal: Client, cron_id: str, times: int) -> list[ScheduleActionExecutionStartWorkflow]:
    """Wait until the schedule of a cron has started that many workflows, and name them."""

    async def started() -> list[Any]:
        found = await temporal.get_schedule_handle(f"cron/{cron_id}").describe()
        actions = [action.action for action in found.info.recent_actions]
        return actions if len(actions) >= times else []

    return await eventually(started, what=f"{times} firings")


async def firings(temporal: Client, cron_id: str, times: int = 1) -> list[Fired]:
    """Wait for that many firings of a cron, and return what came of each."""
    return [
        await temporal.get_workflow_handle(
            started.workflow_id, run_id=started.first_execution_run_id, result_type=Fired
        ).result()
        for started in await workflows(temporal, cron_id, times)
    ]


async def fire(temporal: Client, cron_id: str, times: int = 1) -> Fired:
    """Make a cron due for the nth time, and return what came of it."""
    if times > 1:
        # Times are told apart by their seconds.
        found = await temporal.get_schedule_handle(f"cron/{cron_id}").describe()
        last = found.info.recent_actions[-1].scheduled_at

        async def later() -> bool:
            return datetime.now(UTC) >= last + timedelta(seconds=1)

        await eventually(later)
    await trigger(temporal, cron_id)
    return (await firings(temporal, cron_id, times))[-1]
