"""A server as an operator runs it: engines that nobody has prepared, roles by console scripts and environment variables."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from durathread.embedded import folder as folders
from durathread.embedded.engines import Engines, describe, running
from durathread.embedded.ports import free_port
from durathread.embedded.temporal import Temporal
from tests.stack import Stack

COMMAND = str(Path(sys.executable).with_name("durathread"))
# What an operator's shell has besides.
KEPT = ("PATH", "HOME", "LANG", "TMPDIR")
# How long Temporal may take to say that it serves, in seconds; it is asked again.
ANSWER = 5.0


class PlainTemporal(Temporal):
    """A development server as its documentation starts it, but for the file that it keeps its data in."""

    def command(self) -> list[str]:
        """Return the command line."""
        program, *_ = super().command()
        data = str(self.folder.path / "plain.db")
        return [program, "server", "start-dev", "--headless", "--port", str(self.port), "--db-filename", data]

    async def ready(self) -> bool:
        """Say whether it serves its namespace."""
        try:
            async with asyncio.timeout(ANSWER):
                client = await Client.connect(self.address)
                await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="default"))
        # A server that is just starting may take a request and never answer it.
        except (RuntimeError, RPCError, TimeoutError):
            return False
        return True


class PlainStack(Stack):
    """Roles that are told by their environment alone."""

    def command(self, role: str) -> list[str]:
        """Return the command line of a role."""
        return [COMMAND, role]

    def variables(self, role: str) -> dict[str, str]:
        """Return the environment variables of a role."""
        return {**environment(self.environment), "DURATHREAD_PORT": str(self.port)}


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return all that a role finds in its environment."""
    return {**{name: os.environ[name] for name in KEPT if name in os.environ}, **given}


@asynccontextmanager
async def plain_engines(data: Path) -> AsyncGenerator[Engines]:
    """Start the three engines, Temporal without a flag of ours."""
    with folders.opened(data) as folder:
        found = describe(folder, ephemeral=True, temporal_port=free_port(), ui_port=None)
        temporal = PlainTemporal(folder, port=found.temporal.port, ui_port=None, ephemeral=True)
        found = Engines(folder, found.postgres, found.valkey, temporal)
        async with running(found):
            yield found


async def migrate(given: Mapping[str, str], *, logs: Path) -> None:
    """Prepare the engines, as an operator does."""
    logs.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240
    with (logs / "migrate.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            COMMAND, "migrate", env=environment(given), cwd=logs, stdout=log, stderr=log
        )
    if await process.wait() != 0:
        raise RuntimeError((logs / "migrate.log").read_text())
