"""What a worker counts and measures, for Prometheus."""

import time
from collections.abc import Generator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from durathread.db.pool import Pool
from durathread.graphs.loops import GraphLoops
from durathread.records import Run
from durathread.streams.publisher import Publisher

# In seconds. A step may call a model, or a tool that takes its time.
STEP_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
WAIT_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class WorkerMetrics:
    """What one worker process counts, and what it reads when it is asked."""

    def __init__(self) -> None:
        """Start from zero."""
        self.registry = CollectorRegistry()
        registry = self.registry
        self._ended = Counter("durathread_runs_ended", "Runs that ended here.", ["status"], registry=registry)
        self._steps_running = Gauge("durathread_steps_running", "Steps that run now.", registry=registry)
        self._step_seconds = Histogram(
            "durathread_step_seconds", "Time that steps took.", ["graph"], buckets=STEP_BUCKETS, registry=registry
        )
        self._first_step_seconds = Histogram(
            "durathread_first_step_seconds",
            "Time from the admission of a run to its first step, its turn on its thread included.",
            buckets=WAIT_BUCKETS,
            registry=registry,
        )
        self._fenced = Counter(
            "durathread_fenced_writes", "Steps whose writes were refused: their run is another's.", registry=registry
        )
        self._repeated = Counter(
            "durathread_steps_repeated", "Steps that began again, after an earlier attempt.", registry=registry
        )
        self._set_aside = Counter(
            "durathread_loops_set_aside",
            "Event loops that a node has blocked, since the start.",
            registry=registry,
        )
        # Of the loops that are there now.
        self._set_aside_before = 0
        self._stalled = self._gauge("durathread_loops_stalled", "Event loops that a node blocks now.")
        self._loops = self._gauge("durathread_loops_running", "Event loops that have a thread.")
        self._left_behind = self._gauge("durathread_threads_left_behind", "Threads that work on what was cancelled.")
        self._events = self._gauge("durathread_events_waiting", "Events that Valkey has not taken yet.")
        self._lag = self._gauge("durathread_event_lag_seconds", "How long the oldest of them has waited.")
        self._pool_size = self._gauge("durathread_pool_size", "Connections to Postgres that this process holds.")
        self._pool_idle = self._gauge("durathread_pool_available", "Those of them that nobody uses.")
        self._pool_queue = self._gauge("durathread_pool_waiting", "How many wait for a connection.")

    @contextmanager
    def step(self, run: Run) -> Generator[None]:
        """Measure a step that has claimed its run."""
        if run.repeated:
            self._repeated.inc()
        elif run.step == 0 and run.started_at is not None:
            self._first_step_seconds.observe((run.started_at - run.created_at).total_seconds())
        began = time.perf_counter()
        with self._steps_running.track_inprogress():
            try:
                yield
            finally:
                self._step_seconds.labels(run.graph_id).observe(time.perf_counter() - began)

    def ended(self, status: str) -> None:
        """Count the end of a run."""
        self._ended.labels(status).inc()

    def fenced(self) -> None:
        """Count a step that has lost its run to somebody else."""
        self._fenced.inc()

    def read(self, *, loops: GraphLoops, publisher: Publisher, pool: Pool) -> None:
        """Bring up to date what is not counted as it happens."""
        self._set_aside.inc(max(0, loops.set_aside - self._set_aside_before))
        self._set_aside_before = loops.set_aside
        self._stalled.set(loops.stalled)
        self._loops.set(loops.running)
        self._left_behind.set(loops.left_behind)
        self._events.set(publisher.waiting)
        self._lag.set(publisher.lag)
        stats = pool.get_stats()
        self._pool_size.set(stats.get("pool_size", 0))
        self._pool_idle.set(stats.get("pool_available", 0))
        self._pool_queue.set(stats.get("requests_waiting", 0))

    def text(self) -> bytes:
        """Write all of it as Prometheus reads it."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, what: str) -> Gauge:
        return Gauge(name, what, registry=self.registry)
