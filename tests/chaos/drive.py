"""A chaos run: clients, havoc, rest and verdict."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

from temporalio.client import Client as Temporal

from durathread.db.migrate import upgrade
from durathread.embedded.engines import Engines, engines
from durathread.workflows.messages import Sweep
from tests.chaos.clients import Client
from tests.chaos.havoc import Havoc
from tests.chaos.ledger import Ledger
from tests.chaos.plain import PlainStack, migrate, plain_engines
from tests.chaos.stalls import Stalls
from tests.chaos.verdict import Verdict, judge, noise, rest
from tests.conftest import environment_of
from tests.eventually import eventually
from tests.receiver import receiving
from tests.stack import GRAPHS, Stack, started

CONFIG = GRAPHS.parent / "chaos.json"
QUEUE = "chaos"


@dataclass(frozen=True)
class Mix:
    """How much of everything. `pause` is the mean time between two calamities, in seconds."""

    seed: int = 1
    seconds: float = 60
    clients: int = 10
    threads: int = 6
    apis: int = 1
    workers: int = 1
    pause: float = 3
    # By console scripts and environment variables alone, on engines that nobody has prepared.
    roles: bool = False
    only: Sequence[str] = ()
    # How long the server may take to come to rest, in seconds.
    patience: float = 150


@asynccontextmanager
async def server(environment: Mapping[str, str], mix: Mix, logs: Path) -> AsyncGenerator[list[Stack]]:
    """Run as many APIs and workers as are asked for."""
    make = PlainStack if mix.roles else Stack
    async with AsyncExitStack() as stack:
        first = make(environment, logs / "first")
        stacks = [await stack.enter_async_context(started(first, workers=mix.workers))]
        for number in range(1, mix.apis):
            other = make(environment, logs / f"api{number}")
            stacks.append(await stack.enter_async_context(started(other, workers=0)))
        yield stacks


async def chaos(mix: Mix, folder: Path) -> tuple[Verdict, Ledger, Havoc]:
    """Carry out a chaos run on engines of its own, and judge what is left."""
    data = folder / "engines"
    async with plain_engines(data) if mix.roles else engines(data, ephemeral=True, headless=True) as found:
        verdict, ledger, havoc = await _carry_out(found, mix, folder / "logs")
    verdict.noise = noise(sorted((folder / "logs").rglob("*.log")))
    return verdict, ledger, havoc


async def _carry_out(found: Engines, mix: Mix, logs: Path) -> tuple[Verdict, Ledger, Havoc]:
    ledger, database = Ledger(), found.database_url
    if mix.roles:
        environment = {name: value for name, value in found.environment.items() if name != "TEMPORAL_NAMESPACE"}
        environment["DURATHREAD_CONFIG"] = str(CONFIG)
        await migrate(environment, logs=logs)
    else:
        upgrade(database)
        environment = environment_of(found, queue=QUEUE, config=CONFIG)
    async with receiving() as receiver, server(environment, mix, logs) as stacks:
        havoc = Havoc(found, stacks, seed=mix.seed, only=mix.only)
        stalls = Stalls(database)
        watching = asyncio.create_task(stalls.watch())
        await _live(mix, havoc, ledger, urls=[stack.url for stack in stacks], webhook=receiver.url("/ended"))
        for stack in stacks:
            await stack.ready()
        temporal = await Temporal.connect(found.temporal_address)
        queue = await _queue(temporal)
        swept = await _sweep(temporal, queue)
        restless = await rest(database, patience=mix.patience)
        watching.cancel()
        verdict = await judge(
            ledger,
            database=database,
            url=stacks[0].url,
            temporal=temporal,
            task_queue=queue,
            redis_url=found.redis_url,
            receiver=receiver,
            lost=havoc.lost,
        )
    verdict.counts["swept"] = swept
    verdict.longest_stall = stalls.longest
    verdict.wrong += [f"after {mix.patience:.0f} s: {what}" for what in restless]
    return verdict, ledger, havoc


async def _live(mix: Mix, havoc: Havoc, ledger: Ledger, *, urls: Sequence[str], webhook: str) -> None:
    """Let clients do what they do, and things happen, until it is enough."""
    chance = random.Random(f"{mix.seed}/threads")
    threads = [str(UUID(int=chance.getrandbits(128), version=4)) for _ in range(mix.threads)]
    clients = [
        Client(n, seed=mix.seed, urls=urls, threads=threads, ledger=ledger, webhook=webhook) for n in range(mix.clients)
    ]
    end = time.monotonic() + mix.seconds
    await asyncio.gather(
        havoc.run(end, pause=mix.pause), havoc.supervise(end), *(client.run(end) for client in clients)
    )
    await havoc.mend()


async def _queue(temporal: Temporal) -> str:
    """Find the task queue that the server has chosen."""

    async def found() -> str | None:
        async for each in temporal.list_workflows("WorkflowType = 'Run'", limit=1):
            return each.task_queue
        return None

    return await eventually(found, what="a workflow of a run") or QUEUE


async def _sweep(temporal: Temporal, queue: str) -> int:
    """Do what a schedule does now and then, once all that was just sent has arrived."""
    return await temporal.execute_workflow("Sweep", Sweep(age=4), id=f"sweep-{uuid4()}", task_queue=queue)
