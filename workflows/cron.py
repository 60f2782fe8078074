"""The workflow that the schedule of a cron starts: it has a run admitted, and leaves it to its thread."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey

from durathread.temporal.connection import GRAPH_ID, RUN_STATUS, THREAD_ID
from durathread.workflows import priorities
from durathread.workflows.messages import CRON, FIRE, CronFiring, CronTick, Fired

# Set by Temporal on what a schedule starts.
DUE = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")

FIRING_RETRY = RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=10))


@workflow.defn(name=CRON, sandboxed=False)
class Cron:
    """One firing of a cron."""

    @workflow.run
    async def run(self, tick: CronTick) -> Fired:
        """Return what came of the firing. A run that is refused is no failure: the cron goes on."""
        info = workflow.info()
        due = info.typed_search_attributes.get(DUE) or info.start_time
        fired = await workflow.execute_activity(
            FIRE,
            CronFiring(tick.cron_id, due.timestamp()),
            result_type=Fired,
            start_to_close_timeout=timedelta(seconds=10),
            retry_policy=FIRING_RETRY,
            priority=priorities.SOON_OVER,
        )
        outcome = f"run `{fired.run_id}` on thread `{fired.thread_id}`" if fired.run_id else fired.reason
        workflow.set_current_details(f"**{fired.status}** {outcome}")
        # Each upsert is a write to Temporal's visibility store, and an Action: the run has these attributes itself.
        if fired.status == "admitted" and tick.terse:
            return fired
        updates = [RUN_STATUS.value_set(fired.status)]
        if fired.thread_id:
            updates += [THREAD_ID.value_set(fired.thread_id), GRAPH_ID.value_set(fired.graph_id)]
        workflow.upsert_search_attributes(updates)
        return fired
