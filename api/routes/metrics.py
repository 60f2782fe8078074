"""Metrics of the server: `GET /metrics`, for Prometheus or as JSON."""

import time
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from durathread.api.deps import Server, ServerDep
from durathread.api.http.bodies import Routes
from durathread.api.http.json_answers import Json
from durathread.db import runs
from durathread.db.pool import connection

router = Routes(tags=["System"])

# In seconds. A stream counts until its first byte.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
# Requests that no route takes share one label: whoever tries paths must not fill the memory.
UNROUTED = "unmatched"
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}, "application/json": {"schema": {"type": "object"}}}}
}


class Metrics:
    """What one API process counts, and what it reads when it is asked.

    Names begin with `lg_api_`, as those of the Agent Server do, so that dashboards find them.
    """

    def __init__(self) -> None:
        """Start from zero."""
        self.registry = CollectorRegistry()
        labels = ("method", "path", "status")
        self._requests = Counter("lg_api_http_requests", "Requests answered.", labels, registry=self.registry)
        self._latency = Histogram(
            "lg_api_http_requests_latency_seconds",
            "Time to the first byte of an answer.",
            ("method", "path"),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._pending = self._gauge("lg_api_num_pending_runs", "Runs that wait for their turn.")
        self._running = self._gauge("lg_api_num_running_runs", "Runs that work.")
        self._waited = self._gauge("lg_api_pending_runs_wait_time_max", "How long the oldest has been due, in seconds.")
        self._pool_size = self._gauge("lg_api_pg_pool_size", "Connections to Postgres that this process holds.")
        self._pool_idle = self._gauge("lg_api_pg_pool_available", "Those of them that nobody uses.")
        self._pool_queue = self._gauge("lg_api_pg_pool_queue_size", "Requests that wait for a connection.")

    def count(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests.labels(method, path, str(status)).inc()
        self._latency.labels(method, path).observe(seconds)

    async def read(self, server: Server) -> None:
        """Bring up to date what is not counted as it happens, unless that has just been done."""
        await server.briefly("metrics", lambda: self._read(server))

    async def _read(self, server: Server) -> None:
        async with connection(server.pool) as conn:
            load = await runs.load(conn)
        self._pending.set(load.pending)
        self._running.set(load.running)
        self._waited.set(load.waited)
        pool = server.pool.get_stats()
        self._pool_size.set(pool.get("pool_size", 0))
        self._pool_idle.set(pool.get("pool_available", 0))
        self._pool_queue.set(pool.get("requests_waiting", 0))

    def _gauge(self, name: str, what: str) -> Gauge:
        return Gauge(name, what, registry=self.registry)


class MeteredRequests:
    """Counts every request by the template of its route, and how long its answer took to begin."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        """Wrap an app."""
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def metered(message: Message) -> None:
            if message["type"] == "http.response.start":
                path = getattr(scope.get("route"), "path", UNROUTED)
                self._metrics.count(scope["method"], path, message["status"], time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, metered)


@router.get("/metrics", response_class=Response, responses=ANSWERS)
async def metrics(
    request: Request,
    server: ServerDep,
    form: Annotated[Literal["prometheus", "json"], Query(alias="format")] = "prometheus",
) -> Response:
    """Report how many runs wait and work, and what this process has answered."""
    found: Metrics = request.app.state.metrics
    await found.read(server)
    if form == "json":
        return Json(
            {family.name: [_sample(sample) for sample in family.samples] for family in found.registry.collect()}
        )
    return Response(generate_latest(found.registry), media_type=CONTENT_TYPE_LATEST)


def _sample(sample: Any) -> dict[str, Any]:
    return {"name": sample.name, "labels": sample.labels, "value": sample.value}
