"""Our containers, as docker-compose.yml describes them: console scripts, told everything by environment variables."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from durathread.embedded.engines import Engines
from tests.cluster.engines import Job, role
from tests.conftest import own_database
from tests.stack import Stack, free_port

WORKERS = ("worker", "worker1")


@dataclass
class Deployed(Stack):
    """An API and workers; the environment is what Compose leaves to the operator."""

    engines: Engines | None = field(default=None, kw_only=True)

    def command(self, role: str) -> list[str]:
        """Return the command line of a role."""
        return self._described(role)[0]

    def variables(self, role: str) -> dict[str, str]:
        """Return the environment variables of a role."""
        # In Compose each has an address of its own.
        here = (
            {"PORT": str(self.port)}
            if role == "api"
            else {f"{each}_ADDRESS": f"127.0.0.1:{free_port()}" for each in ("HEALTH", "METRICS")}
        )
        return {**self._described(role)[1], **{f"DURATHREAD_{name}": value for name, value in here.items()}}

    def _described(self, name: str) -> tuple[list[str], dict[str, str]]:
        assert self.engines is not None
        return role(self.engines, name, **self.environment)


@dataclass(frozen=True)
class Deployment:
    """APIs and workers on a database of their own; the workers belong to the first stack."""

    stacks: list[Stack]
    engines: Engines
    database_url: str
    logs: Path

    @property
    def urls(self) -> list[str]:
        """Where the APIs answer."""
        return [stack.url for stack in self.stacks]

    async def mend(self) -> None:
        """Start what a test that failed has left dead."""
        for number, stack in enumerate(self.stacks):
            for name in ("api",) if number else ("api", *WORKERS):
                process = stack.processes.get(name)
                if process is None or process.returncode is not None:
                    await stack.start(name, name.rstrip("1"))
            await stack.ready()

    @property
    def task_queue(self) -> str:
        """The task queue that the workers poll, as they log it."""
        said = next(line for line in self.stacks[0].log(WORKERS[0]).splitlines() if "The worker is ready" in line)
        return json.loads(said)["task_queue"]


@asynccontextmanager
async def deployed(
    engines: Engines, logs: Path, *, config: Path, apis: int = 2, workers: int = 2
) -> AsyncGenerator[Deployment]:
    """Migrate a new database, start our containers on it, and stop them at the end."""
    async with own_database(engines) as database_url, AsyncExitStack() as stack:
        with psycopg.connect(engines.database_url, autocommit=True) as conn:
            name = sql.Identifier(database_url.rpartition("/")[2])
            conn.execute(sql.SQL("ALTER DATABASE {} OWNER TO durathread").format(name))
        _, described = role(engines, "api")
        base, _, _ = described["DATABASE_URL"].rpartition("/")
        environment: dict[str, str] = {
            "DATABASE_URL": f"{base}/{database_url.rpartition('/')[2]}",
            "DURATHREAD_CONFIG": str(config),
        }
        api_url = described["DURATHREAD_API_URL"]
        command, variables = role(engines, "migrate", **environment)
        await Job(engines.folder, "migrate", command, variables=variables).done()
        stacks: list[Stack] = []
        for number in range(apis):
            each = Deployed(environment, logs / f"{number}", engines=engines)
            # All know the first by its name in the network of Compose.
            environment.setdefault("DURATHREAD_API_URL", api_url.replace("api:8123", f"127.0.0.1:{each.port}"))
            stack.push_async_callback(stop, each)
            stacks.append(each)
            await each.start("api")
        for name in WORKERS[:workers]:
            await stacks[0].start(name, "worker")
        await asyncio.gather(*(each.ready() for each in stacks))
        await asyncio.gather(*(stacks[0].worker_ready(name) for name in WORKERS[:workers]))
        yield Deployment(stacks, engines, database_url, logs)


async def stop(stack: Stack) -> None:
    """Stop what still runs."""
    for name in list(stack.processes):
        await stack.stop(name)
