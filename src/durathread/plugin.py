"""The Temporal plugin: everything that makes a client and a worker into a part of durathread."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

from temporalio.client import Client
from temporalio.plugin import SimplePlugin
from temporalio.worker import Worker, WorkerConfig, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from durathread.activities.admit import Admissions
from durathread.activities.attempts import Attempts
from durathread.activities.deliver import Deliveries
from durathread.activities.expire import Expiries
from durathread.activities.fire_crons import Crons
from durathread.activities.resources import Resources
from durathread.activities.settle import Settlements
from durathread.activities.step import Steps
from durathread.activities.sweep import Sweeps
from durathread.config.settings import Settings
from durathread.db.filters import Filter
from durathread.deployment.belonging import Belonging
from durathread.deployment.task_queue import claim
from durathread.deployment.upkeep import Upkeep
from durathread.graphs.registry import Graphs
from durathread.records import JsonObject
from durathread.runs.request import limits_of
from durathread.startup.loopback import serving_inside
from durathread.startup.preflight import answered
from durathread.temporal.connection import webhook_task_queue
from durathread.workflows.cron import Cron
from durathread.workflows.expire import Expire
from durathread.workflows.messages import ACTIVITIES
from durathread.workflows.run import Run
from durathread.workflows.sweep import Sweep
from durathread.workflows.thread import Thread
from durathread.workflows.webhook import Webhook

if TYPE_CHECKING:
    from durathread.api.auth.absent_users import Standing

# What our workers call themselves in histories. Without one the SDK hashes all modules of the process, which takes 0.3 s.
BUILD_ID = f"durathread-{version('durathread')}"
# Webhooks that a worker delivers at once, and how long those under way may take when it stops, in seconds.
DELIVERIES = 200
PASSED_THROUGH = ("durathread", "langgraph", "langchain_core", "langsmith")
LAST_DELIVERIES = 2.0


class DurathreadPlugin(SimplePlugin):
    """Adds our workflows, activities and worker options to anybody's client and worker.

    What we send is plain JSON, so the client keeps its converter, codec and external storage.

    Give it to the client only; workers built on that client inherit it::

        client = await Client.connect("localhost:7233", plugins=[DurathreadPlugin()])
        async with Worker(client, task_queue="durathread", workflows=[YourWorkflow]):
            ...

    Options that the worker was given win over the plugin's. Sandboxed workflows may import us, and LangGraph, as they are.
    """

    def __init__(
        self, settings: Settings | None = None, *, graphs: Graphs | Mapping[str, object] | None = None
    ) -> None:
        """Build the plugin.

        Args:
            settings: where the engines are; from the environment by default.
            graphs: what to serve: graphs (or factories of them) by id; what `settings.config` names by default.

        Raises:
            ConfigError: a graph is none.
        """
        self.settings = settings or Settings()
        if graphs is not None and not isinstance(graphs, Graphs):
            graphs = Graphs.of(graphs)
        self._resources = Resources(self.settings, graphs)
        steps, ends, starts = Steps(self._resources), Settlements(self._resources), Admissions(self._resources)
        self._deliveries = Deliveries(self._resources)
        crons = Crons(self._resources, ask=self._ask)
        activities = [
            steps.step,
            ends.settle,
            ends.forget,
            starts.admit,
            starts.await_run,
            Sweeps(self._resources).sweep,
            self._deliveries.discard,
            crons.fire,
            crons.sweep,
            Expiries(self._resources).expire,
        ]
        self._standing: Standing | None = None
        self._attempts = Attempts(self._resources, ACTIVITIES)
        super().__init__(
            "durathread.DurathreadPlugin",
            workflows=[Thread, Run, Sweep, Cron, Webhook, Expire],
            activities=activities,
            interceptors=[Belonging(lambda: self._resources.deployment_id), self._attempts],
            workflow_runner=_passing,
        )

    async def _ask(self, user: JsonObject, value: JsonObject) -> Filter | None:
        """Ask the auth that langgraph.json names, where users' code runs, as the API asks when a run is created."""

        async def asked() -> Filter | None:
            # Not at the start, which need not wait for it.
            standing = self._standing or import_module("durathread.api.auth.absent_users").Standing.load(self.graphs)
            self._standing = standing
            return await standing.ask(user, value)

        return await self._resources.loops.run(asked)

    @property
    def graphs(self) -> Graphs:
        """What the worker serves."""
        return self._resources.graphs

    @property
    def failure(self) -> str | None:
        """Why the worker does no work now; None if it does."""
        return self._resources.failure

    def metrics(self) -> bytes:
        """Say what the worker has counted and measured, as Prometheus reads it."""
        return self._resources.measured()

    def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        """Add our options where the worker has none of its own."""
        ours: dict[str, Any] = {
            "max_concurrent_activities": self.settings.jobs_per_worker,
            "max_concurrent_workflow_tasks": 100,
            "max_cached_workflows": 2000,
            # A cancel that is not pushed comes with the answer to a heartbeat.
            "max_heartbeat_throttle_interval": timedelta(seconds=1),
            "default_heartbeat_throttle_interval": timedelta(seconds=1),
            # Decides how long a thread waits for a worker that was killed.
            "sticky_queue_schedule_to_start_timeout": timedelta(seconds=1),
            "graceful_shutdown_timeout": timedelta(seconds=self.settings.shutdown_grace),
        }
        given = cast(dict[str, Any], config)
        for name, value in ours.items():
            if given.get(name) in _UNSET.get(name, (None,)):
                given[name] = value
        return super().configure_worker(config)

    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        """Run a worker with the pool, the event bus and the graphs open. A replayer needs none of them."""
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(serving_inside(self.settings, self._resources.graphs, worker))
                await stack.enter_async_context(self._resources.opened(lambda: worker.client))
                await answered(
                    lambda: claim(worker.client, self._resources.deployment, task_queue=worker.task_queue),
                    patience=self.settings.start_patience,
                )
            except BaseException:
                # As the SDK does where it fails before it has begun: else `async with worker` never ends.
                worker._shutdown_complete_event.set()  # pyright: ignore[reportPrivateUsage]
                raise
            await stack.enter_async_context(self._messenger(worker))
            upkeep = Upkeep(
                self._resources.pool,
                worker.client,
                task_queue=worker.task_queue,
                limits=limits_of(self.settings),
                expiry=self._resources.terms.expiry,
                every=self.settings.sweep_interval,
            )
            await stack.enter_async_context(self._resources.owner.keeping(upkeep.run(), name="upkeep"))
            await self._resources.owner.during(next(worker))

    def _messenger(self, worker: Worker) -> Worker:
        """Build the worker that delivers webhooks beside another: their slots and their queue are their own."""
        config = {**worker.client.config(active_config=True), "plugins": []}
        return Worker(
            Client(**cast(Any, config)),
            task_queue=webhook_task_queue(worker.task_queue),
            build_id=BUILD_ID,
            activities=[self._deliveries.deliver],
            interceptors=[self._attempts],
            max_concurrent_activities=DELIVERIES,
            max_heartbeat_throttle_interval=timedelta(seconds=1),
            graceful_shutdown_timeout=timedelta(seconds=min(self.settings.shutdown_grace, LAST_DELIVERIES)),
        )

    async def ready(self) -> None:
        """Wait until a worker has opened what it needs."""
        await self._resources.ready.wait()


def _passing(runner: WorkflowRunner | None) -> WorkflowRunner:
    """Let sandboxed workflows import what their module does not use inside them."""
    runner = runner or SandboxedWorkflowRunner()
    if not isinstance(runner, SandboxedWorkflowRunner):
        return runner
    return replace(runner, restrictions=runner.restrictions.with_passthrough_modules(*PASSED_THROUGH))


# What the SDK fills in where the worker was given nothing.
_UNSET: dict[str, tuple[Any, ...]] = {
    "max_cached_workflows": (1000, None),
    "max_heartbeat_throttle_interval": (timedelta(seconds=60), None),
    "default_heartbeat_throttle_interval": (timedelta(seconds=30), None),
    "sticky_queue_schedule_to_start_timeout": (timedelta(seconds=10), None),
    "graceful_shutdown_timeout": (timedelta(), None),
}
