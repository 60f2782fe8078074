"""Clients that are at work while a deployment is hurt, and what must be true afterwards."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from uuid import uuid4

import httpx
from temporalio.client import Client as Temporal

from tests.chaos.clients import Client
from tests.chaos.ledger import Ledger
from tests.chaos.verdict import judge, rest
from tests.cluster.deployment import Deployment
from tests.eventually import eventually
from tests.receiver import Receiver

CLIENTS = 8
THREADS = 6
# Seconds that everything may take to come to rest.
PATIENCE = 120
# How often what has come to rest is looked at, until nothing is wrong.
LOOKS = 30


@dataclass
class Probe:
    """One more client, which runs something small again and again, and notes when it was answered."""

    urls: Sequence[str]
    answered: list[float] = field(default_factory=list[float])

    async def run(self) -> None:
        """Start runs, one after the other, until cancelled."""
        body = {"assistant_id": "plans", "input": {"plan": {"id": "probe", "items": [0]}, "log": ["in/probe"]}}
        self.answered.append(time.monotonic())
        async with httpx.AsyncClient(timeout=httpx.Timeout(60, connect=2)) as http:
            while True:
                for url in self.urls:
                    with suppress(httpx.TransportError):
                        answer = await http.post(f"{url}/runs/wait", json=body)
                        if answer.is_success and "__error__" not in answer.json():
                            self.answered.append(time.monotonic())
                await asyncio.sleep(0.05)

    async def answers(self, times: int = 1) -> None:
        """Wait until it has been answered again."""
        known = len(self.answered)

        async def more() -> bool:
            return len(self.answered) >= known + times

        await eventually(more, timeout=90, what="a run that is answered")

    def longest_pause(self, since: float) -> float:
        """Return the longest time without an answer, in seconds."""
        times = [each for each in self.answered if each >= since]
        before = max((each for each in self.answered if each < since), default=since)
        return max(b - a for a, b in zip([before, *times], times, strict=False))


@dataclass
class Load:
    """The clients' book, and the probe."""

    deployment: Deployment
    ledger: Ledger
    receiver: Receiver
    probe: Probe
    rounds: int = 0

    @asynccontextmanager
    async def at_work(self) -> AsyncGenerator[None]:
        """Have clients do random things for as long as the block lasts."""
        self.rounds += 1
        threads = [str(uuid4()) for _ in range(THREADS)]
        clients = [
            Client(
                self.rounds * CLIENTS + number,
                seed=self.rounds,
                urls=self.deployment.urls,
                threads=threads,
                ledger=self.ledger,
                webhook=self.receiver.url("/ended"),
            )
            for number in range(CLIENTS)
        ]
        tasks = [asyncio.create_task(client.run(math.inf)) for client in clients]
        tasks.append(asyncio.create_task(self.probe.run()))
        try:
            await self.progress()
            yield
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            await self.deployment.mend()
        assert [each for each in ended if not isinstance(each, asyncio.CancelledError)] == []

    async def progress(self, runs: int = 12) -> None:
        """Wait until more runs have been accepted, and the probe was answered."""
        known = len(self.ledger.acknowledged)

        async def more() -> bool:
            return len(self.ledger.acknowledged) >= known + runs

        await asyncio.gather(eventually(more, timeout=120, what="more runs"), self.probe.answers(2))

    async def findings(self) -> list[str]:
        """Wait for rest; return what is wrong: runs that are lost, doubled or not at their end, threads that are busy."""
        restless = await rest(self.deployment.database_url, patience=PATIENCE)
        wrong: list[str] = []
        # A webhook that Temporal has taken over may be on its way. What is lost or doubled stays so.
        for _ in range(LOOKS):
            wrong = await self._judged()
            if not wrong:
                break
            await asyncio.sleep(2)
        return [*wrong, *(f"after {PATIENCE} s: {what}" for what in restless)]

    async def _judged(self) -> list[str]:
        database = self.deployment.database_url
        verdict = await judge(
            self.ledger,
            database=database,
            url=self.deployment.urls[0],
            temporal=await Temporal.connect(self.deployment.engines.temporal_address),
            task_queue=self.deployment.task_queue,
            redis_url=self.deployment.engines.redis_url,
            receiver=self.receiver,
        )
        return verdict.wrong
