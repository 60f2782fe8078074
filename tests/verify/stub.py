"""A server of a few routes of the API, which can be told to do things wrong as servers do."""

import asyncio
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
from langgraph_sdk.client import LangGraphClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from durathread.verify.checks import RACERS

NODES = ("a", "b", "c")


def now() -> str:
    return datetime.now(UTC).isoformat()


@dataclass
class Run:
    """A run, and the task that executes it."""

    label: str
    seconds: float
    thread: "Thread"
    run_id: str = field(default_factory=lambda: str(uuid4()))
    status: str = "pending"
    created_at: str = field(default_factory=now)
    updated_at: str = field(default_factory=now)
    before: list[str] = field(default_factory=list[str])
    task: "asyncio.Task[None] | None" = None

    @property
    def in_flight(self) -> bool:
        return self.status in ("pending", "running")

    def become(self, status: str) -> None:
        self.status, self.updated_at = status, now()

    async def execute(self, after: list["Run"]) -> None:
        await asyncio.gather(*(run.task for run in after if run.task), return_exceptions=True)
        log = self.thread.log
        self.status, self.before = "running", [*log]
        log.append(self.label)
        for node in NODES:
            self.thread.next = [node]
            await asyncio.sleep(self.seconds if node == "b" else 0)
            log.append(node)
        self.thread.next = []
        if self.in_flight:
            self.become("success")


@dataclass
class Thread:
    """A thread."""

    log: list[str] = field(default_factory=list[str])
    next: list[str] = field(default_factory=list[str])
    runs: dict[str, Run] = field(default_factory=dict[str, Run])


class Stub:
    """The server. `flaws` names what it does wrong."""

    def __init__(self, flaws: AbstractSet[str] = frozenset()) -> None:
        self.flaws = flaws
        self.looking = asyncio.Barrier(RACERS)
        self.threads: dict[str, Thread] = {}
        thread, run = "/threads/{thread}", "/threads/{thread}/runs/{run}"
        self.app = Starlette(
            routes=[
                Route("/assistants/search", self.assistants, methods=["POST"]),
                Route("/threads", self.create_thread, methods=["POST"]),
                Route(f"{thread}/state", self.state),
                Route(f"{thread}/runs", self.create_run, methods=["POST"]),
                Route(run, self.run),
                Route(f"{run}/cancel", self.cancel, methods=["POST"]),
            ]
        )

    def client(self) -> LangGraphClient:
        """Build the SDK's client of it."""
        return LangGraphClient(httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://stub"))

    async def assistants(self, request: Request) -> Response:
        return JSONResponse([{"assistant_id": "verify"}])

    async def create_thread(self, request: Request) -> Response:
        thread_id = (await request.json())["thread_id"]
        self.threads[thread_id] = Thread()
        return JSONResponse({"thread_id": thread_id})

    async def state(self, request: Request) -> Response:
        thread = self._thread(request)
        return JSONResponse({"values": {"log": thread.log}, "next": thread.next})

    async def run(self, request: Request) -> Response:
        found = self._thread(request).runs.get(request.path_params["run"])
        return self._shown(found) if found else JSONResponse({"detail": "Run not found"}, 404)

    async def cancel(self, request: Request) -> Response:
        run = self._thread(request).runs[request.path_params["run"]]
        self._stop(run)
        return JSONResponse({})

    async def create_run(self, request: Request) -> Response:
        thread, body = self._thread(request), await request.json()
        strategy = body.get("multitask_strategy", "enqueue")
        before = [run for run in thread.runs.values() if run.in_flight]
        if "looks first" in self.flaws:
            # All have looked before one of them is inserted.
            await self.looking.wait()
        if strategy == "reject" and before and "accepts" not in self.flaws:
            return JSONResponse({"detail": "busy"}, 409)
        if strategy in ("interrupt", "rollback") and "ignores" not in self.flaws:
            for run in before:
                self._stop(run)
                if strategy == "rollback" and "only interrupts" not in self.flaws:
                    thread.log[:] = run.before
                    del thread.runs[run.run_id]
        run = Run(body["input"]["log"][0], body["input"]["seconds"], thread)
        thread.runs[run.run_id] = run
        after = [] if "parallel" in self.flaws else [each for each in before if each.in_flight]
        run.task = asyncio.create_task(run.execute(after))
        return self._shown(run)

    def _stop(self, run: Run) -> None:
        if run.task and "goes on" not in self.flaws:
            run.task.cancel()
        run.become("interrupted")

    def _thread(self, request: Request) -> Thread:
        return self.threads[request.path_params["thread"]]

    def _shown(self, run: Run) -> Response:
        names = ("run_id", "status", "created_at", "updated_at")
        shown: dict[str, Any] = {name: getattr(run, name) for name in names}
        return JSONResponse(shown)
