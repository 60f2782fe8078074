"""Clients that do random things to a few threads, and note what they are told."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import uuid4

import httpx
import orjson

from tests.chaos.ledger import Acknowledged, Ledger, Seen

STRATEGIES = ("enqueue", "enqueue", "interrupt", "rollback", "reject")
# What an outage may answer, and what a thread in another state than a client believes.
EXCUSED = (503,)
REFUSED = (400, 404, 409, 422)
# Of commands, which have no status.
EXCUSES = ("unavailable", "cannot be started", "is stopping")
CUT = (httpx.TransportError, httpx.StreamError, ConnectionError, TimeoutError)


class Client:
    """One client. It waits for what it does, then does something else."""

    def __init__(
        self, number: int, *, seed: int, urls: Sequence[str], threads: list[str], ledger: Ledger, webhook: str = ""
    ) -> None:
        """Build a client of servers, whichever is up."""
        self.random = random.Random(f"{seed}/{number}")
        self.urls = urls
        self.threads = threads
        self.ledger = ledger
        self.webhook = webhook
        self.number = number
        self.count = 0
        self.sent = dict[str, float]()
        self.http = httpx.AsyncClient(timeout=httpx.Timeout(30, connect=2))
        self.actions: list[tuple[int, Callable[[str], Awaitable[None]]]] = [
            (8, self.create),
            (4, self.wait),
            (6, self.stream),
            (4, self.cancel),
            (4, self.resume),
            (2, self.go_on),
            (2, self.join),
            (2, self.update),
            (2, self.command),
            (1, self.delete_run),
            (1, self.copy),
            (2, self.stateless),
            (1, self.batch),
            (2, self.read),
        ]
        self.rare: list[Callable[[str], Awaitable[None]]] = [self.delete_thread, self.cancel_all]

    async def run(self, until: float) -> None:
        """Do things until it is time to stop."""
        weights = [weight for weight, _ in self.actions]
        async with self.http:
            while time.monotonic() < until:
                action = self.random.choices([action for _, action in self.actions], weights)[0]
                if self.random.random() < 0.02:
                    action = self.random.choice(self.rare)
                try:
                    async with asyncio.timeout(90):
                        await action(self.random.choice(self.threads))
                    self.ledger.outcomes[action.__name__] += 1
                except CUT as error:
                    self.ledger.outcomes[f"{action.__name__} {type(error).__name__}"] += 1
                    await asyncio.sleep(0.2)
                await asyncio.sleep(self.random.random() * 0.3)

    def url(self, path: str) -> str:
        """Choose a server."""
        return f"{self.random.choice(self.urls)}{path}"

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request; return its JSON, or None if it was refused or the server is in trouble."""
        response = await self.http.request(method, self.url(path), json=body)
        return self.answer(method, path, response)

    def answer(self, method: str, path: str, response: httpx.Response) -> Any:
        """Judge an answer."""
        what = path.partition("?")[0].rsplit("/", 1)[-1]
        if response.is_success:
            return response.json() if response.content.strip() else {}
        self.ledger.outcomes[f"{response.status_code}"] += 1
        if response.status_code not in (*EXCUSED, *REFUSED):
            self.ledger.wrong.append(f"{method} …/{what}: {response.status_code} {response.text[:200]}")
        elif not isinstance(response.json().get("detail"), str):
            self.ledger.wrong.append(f"{method} …/{what}: {response.text[:200]} without a detail")
        return None

    def plan(self) -> tuple[str, list[Any]]:
        """Make up a plan."""
        self.count += 1
        kinds: list[Any] = [0, 0, 0.01, 0.05, 0.3, 1.0, "ask", "fail", "stubborn", "route", "reduce", "hop", "sub"]
        weights = [4, 4, 4, 4, 4, 2, 1, 0.4, 0.7, 4, 1, 3, 4]
        items = self.random.choices(kinds, weights, k=self.random.randint(1, 6))
        return f"p{self.number}.{self.count}", items

    def body(self, plan: str, items: list[Any], **more: Any) -> dict[str, Any]:
        """Make up the creation of a run that carries a plan out."""
        self.sent[plan] = time.monotonic()
        chosen: dict[str, Any] = {
            "assistant_id": "plans",
            "input": {"plan": {"id": plan, "items": items}, "log": [f"in/{plan}"]},
            "multitask_strategy": self.random.choice(STRATEGIES),
            "if_not_exists": "create",
            "stream_mode": ["updates", "custom"],
            "durability": self.random.choice(["async", "async", "sync", "exit"]),
        }
        if self.random.random() < 0.1:
            chosen["after_seconds"] = self.random.random() * 2
        if self.webhook and self.random.random() < 0.3:
            chosen["webhook"] = self.webhook
        return chosen | more

    def note(self, run: Any, body: dict[str, Any], *, kept: bool = True) -> None:
        """Note a run that was accepted."""
        plan: dict[str, Any] = (body.get("input") or {}).get("plan") or {"id": "", "items": []}
        known = Acknowledged(
            run["run_id"],
            run["thread_id"],
            body.get("multitask_strategy", "enqueue"),
            plan["id"],
            tuple(plan["items"]),
            time.monotonic(),
            kept=kept,
            webhook="webhook" in body,
            sent=self.sent.pop(plan["id"], 0),
        )
        self.ledger.acknowledge(known)

    def about_to(self, thread_id: str, body: dict[str, Any]) -> None:
        """Note what a request may do, before it is sent."""
        if body.get("multitask_strategy") == "rollback":
            self.ledger.roll_back(thread_id)

    async def create(self, thread_id: str) -> None:
        """Start a run in the background."""
        body = self.body(*self.plan())
        self.about_to(thread_id, body)
        if run := await self.ask("POST", f"/threads/{thread_id}/runs", body):
            self.note(run, body)

    async def wait(self, thread_id: str) -> None:
        """Start a run and wait for its output."""
        body = self.body(*self.plan())
        self.about_to(thread_id, body)
        async with self.http.stream("POST", self.url(f"/threads/{thread_id}/runs/wait"), json=body) as response:
            if response.is_success:
                self.note(ids(response), body)
            await response.aread()
            self.answer("POST", "/wait", response)

    async def stream(self, thread_id: str) -> None:
        """Start a run and follow its stream to the end, over as many connections as it takes."""
        body = self.body(*self.plan(), stream_resumable=True)
        self.about_to(thread_id, body)
        async with self.http.stream(
            "POST", self.url(f"/threads/{thread_id}/runs/stream?stream_end=true"), json=body
        ) as response:
            if not response.is_success:
                await response.aread()
                self.answer("POST", "/stream", response)
                return
            found = ids(response)
            self.note(found, body)
            seen = Seen(found["run_id"], thread_id)
            # Some leave on their own account.
            await self.follow(seen, response, patience=self.random.choice([0.3, 60]))
        while seen.status is None:
            after = next((event_id for event_id, _, _ in reversed(seen.events) if event_id), "-1")
            try:
                path = self.url(f"/threads/{thread_id}/runs/{seen.run_id}/stream?stream_end=true")
                async with self.http.stream("GET", path, headers={"Last-Event-ID": after}) as response:
                    if response.status_code == 404:
                        return
                    if response.is_success:
                        await self.follow(seen, response, patience=self.random.choice([0.5, 60, 60]))
                    else:
                        await response.aread()
                        self.answer("GET", "/stream", response)
                        await asyncio.sleep(0.2)
            except CUT:
                await asyncio.sleep(0.2)
        seen.finished = time.monotonic()
        self.ledger.seen.append(seen)

    async def follow(self, seen: Seen, response: httpx.Response, *, patience: float) -> None:
        """Read a stream until it ends, breaks, or the reader has had enough."""
        try:
            async with asyncio.timeout(patience):
                event: dict[str, str] = {}
                async for line in response.aiter_lines():
                    name, _, value = line.partition(": ")
                    if name:
                        event[name] = value
                        continue
                    if "event" in event:
                        data = orjson.loads(event["data"])
                        if event["event"] == "end":
                            seen.status = data["status"]
                            return
                        seen.events.append((event.get("id", ""), event["event"], data))
                    event = {}
        except CUT:
            return

    async def cancel(self, thread_id: str) -> None:
        """Cancel a run that is in flight."""
        runs = await self.ask("GET", f"/threads/{thread_id}/runs?limit=20") or []
        busy = [run for run in runs if run["status"] in ("pending", "running")]
        if not busy:
            return
        action, wait = self.random.choice(["interrupt", "rollback"]), self.random.choice([0, 1])
        run_id = self.random.choice(busy)["run_id"]
        if action == "rollback":
            self.ledger.removed.add(run_id)
        await self.ask("POST", f"/threads/{thread_id}/runs/{run_id}/cancel?action={action}&wait={wait}")

    async def resume(self, thread_id: str) -> None:
        """Answer a question."""
        thread = await self.ask("GET", f"/threads/{thread_id}")
        if thread and thread["status"] == "interrupted":
            body = {"assistant_id": "plans", "command": {"resume": "yes"}, "multitask_strategy": "reject"}
            if run := await self.ask("POST", f"/threads/{thread_id}/runs", body):
                self.note(run, body)

    async def go_on(self, thread_id: str) -> None:
        """Take up what was interrupted."""
        body = {"assistant_id": "plans", "input": None, "multitask_strategy": "enqueue"}
        if run := await self.ask("POST", f"/threads/{thread_id}/runs", body):
            self.note(run, body)

    async def join(self, thread_id: str) -> None:
        """Wait for any run."""
        runs = await self.ask("GET", f"/threads/{thread_id}/runs?limit=5") or []
        if runs:
            await self.ask("GET", f"/threads/{thread_id}/runs/{self.random.choice(runs)['run_id']}/join")

    async def update(self, thread_id: str) -> None:
        """Edit the state of a thread that rests."""
        edit = {"values": {"log": [f"edit/{uuid4().hex[:8]}"], "left": 0}, "as_node": "work"}
        await self.ask("POST", f"/threads/{thread_id}/state", edit)

    async def command(self, thread_id: str) -> None:
        """Start a run, or answer a question, by the streaming protocol."""
        plan, items = self.plan()
        given = {"plan": {"id": plan, "items": items}, "log": [f"in/{plan}"]}
        strategy = self.random.choice(STRATEGIES)
        params = {"assistant_id": "plans", "input": given, "multitaskStrategy": strategy}
        body = {"id": 1, "method": "run.start", "params": params}
        self.about_to(thread_id, {"multitask_strategy": strategy})
        answer = await self.ask("POST", f"/threads/{thread_id}/commands", body)
        if not answer:
            return
        if answer["type"] == "success":
            run_id = answer["result"]["run_id"]
            run = await self.ask("GET", f"/threads/{thread_id}/runs/{run_id}")
            # Where a question waited, the input has become its answer, and the plan is nobody's.
            carried_out = run is not None and not run["kwargs"]["command"]
            named = {"run_id": run_id, "thread_id": thread_id}
            self.note(named, {"input": given if carried_out else None, "multitask_strategy": strategy})
        elif answer["error"] == "unknown_error" and not any(known in answer["message"] for known in EXCUSES):
            self.ledger.wrong.append(f"run.start: {answer['message']}")

    async def delete_run(self, thread_id: str) -> None:
        """Delete a run that has ended."""
        runs = await self.ask("GET", f"/threads/{thread_id}/runs?limit=20") or []
        over = [run for run in runs if run["status"] not in ("pending", "running")]
        if over:
            run_id = self.random.choice(over)["run_id"]
            self.ledger.removed.add(run_id)
            self.ledger.edited.add(thread_id)
            await self.ask("DELETE", f"/threads/{thread_id}/runs/{run_id}")

    async def delete_thread(self, thread_id: str) -> None:
        """Delete a thread, whatever works on it."""
        self.ledger.delete(thread_id)
        await self.ask("DELETE", f"/threads/{thread_id}")

    async def cancel_all(self, thread_id: str) -> None:
        """Cancel all that is pending, everywhere."""
        await self.ask("POST", "/runs/cancel?action=interrupt", {"status": "pending"})

    async def copy(self, thread_id: str) -> None:
        """Copy a thread, and run something on the copy."""
        if copied := await self.ask("POST", f"/threads/{thread_id}/copy"):
            body = self.body(*self.plan())
            if run := await self.ask("POST", f"/threads/{copied['thread_id']}/runs", body):
                self.note(run, body)

    async def stateless(self, thread_id: str) -> None:
        """Run something on a thread of its own."""
        body = self.body(*self.plan(), on_completion=self.random.choice(["keep", "delete"]))
        del body["multitask_strategy"]
        kept = body["on_completion"] == "keep"
        if self.random.random() < 0.5:
            if run := await self.ask("POST", "/runs", body):
                self.note(run, body, kept=kept)
        else:
            await self.ask("POST", "/runs/wait", body)

    async def batch(self, thread_id: str) -> None:
        """Start several at once."""
        bodies = [self.body(*self.plan(), on_completion="keep") for _ in range(3)]
        for run, body in zip(await self.ask("POST", "/runs/batch", bodies) or [], bodies, strict=False):
            self.note(run, body)

    async def read(self, thread_id: str) -> None:
        """Look at what is there."""
        await self.ask("GET", f"/threads/{thread_id}/state")
        await self.ask("POST", f"/threads/{thread_id}/history", {"limit": 5})
        await self.ask("POST", "/threads/search", {"limit": 5, "status": "busy"})


def ids(response: httpx.Response) -> dict[str, str]:
    """Read the ids of a run that was started, from where it says to be."""
    _, _, thread_id, _, run_id, *_ = response.headers["location"].split("/")
    return {"thread_id": thread_id, "run_id": run_id}
