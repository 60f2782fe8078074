"""The three engines, started together from their PyPI packages. For `durathread dev`, and for tests."""

import asyncio
import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from durathread.embedded import folder as folders
from durathread.embedded.child import Child
from durathread.embedded.folder import Folder
from durathread.embedded.ports import free_port
from durathread.embedded.postgres import Postgres
from durathread.embedded.temporal import Temporal
from durathread.embedded.valkey import Valkey


@dataclass(frozen=True)
class Engines:
    """The running engines: where they are, and each as a process that can be killed and started again."""

    folder: Folder
    postgres: Postgres
    valkey: Valkey
    temporal: Temporal

    @property
    def database_url(self) -> str:
        """Where Postgres is, with the password."""
        return self.postgres.url

    @property
    def redis_url(self) -> str:
        """Where Valkey is, with the password."""
        return self.valkey.url

    @property
    def temporal_address(self) -> str:
        """Where Temporal is: host:port."""
        return self.temporal.address

    @property
    def ui_url(self) -> str | None:
        """Where Temporal's UI is."""
        return self.temporal.ui_url

    @property
    def environment(self) -> dict[str, str]:
        """What the roles of the server must find in their environment."""
        return {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "TEMPORAL_ADDRESS": self.temporal_address,
            "TEMPORAL_NAMESPACE": "default",
        }


@asynccontextmanager
async def engines(
    data: Path,
    *,
    ephemeral: bool = False,
    temporal_port: int | None = None,
    ui_port: int | None = None,
    headless: bool = False,
) -> AsyncGenerator[Engines]:
    """Start the three engines on a data folder, and stop them at the end.

    A port that is taken is replaced by a free one. Ephemeral data is faster, and deleted at the end.
    They end with the thread that entered this, whatever ends it.

    Raises:
        EngineError: the folder is in use, or an engine did not start.
    """
    with folders.opened(data) as folder:
        await folder.stop_orphans()
        ui = None if headless else free_port(ui_port)
        found = describe(folder, ephemeral=ephemeral, temporal_port=free_port(temporal_port), ui_port=ui)
        async with running(found):
            yield found
        if ephemeral:
            shutil.rmtree(folder.path, ignore_errors=True)


def describe(folder: Folder, *, ephemeral: bool, temporal_port: int, ui_port: int | None) -> Engines:
    """Describe the engines of a data folder; nothing runs yet."""
    return Engines(
        folder,
        Postgres(folder, port=free_port(), ephemeral=ephemeral),
        Valkey(folder, port=free_port()),
        Temporal(folder, port=temporal_port, ui_port=ui_port, ephemeral=ephemeral),
    )


@asynccontextmanager
async def running(found: Engines, *, on_ready: Callable[[Child], None] = lambda _: None) -> AsyncGenerator[None]:
    """Start engines all at once, and stop them in order at the end."""
    try:
        await start_together(found.postgres, found.valkey, found.temporal, on_ready=on_ready)
        yield
    finally:
        if found.temporal.ephemeral:
            # It takes a second to stop, for the sake of its data.
            found.temporal.kill()
        for engine in (found.valkey, found.postgres, found.temporal):
            await engine.stop()


async def start_together(*children: Child, on_ready: Callable[[Child], None]) -> None:
    """Start children at once. When one fails, the others are not waited for.

    Raises:
        EngineError: one did not start.
    """

    async def start(child: Child) -> None:
        await child.start()
        on_ready(child)

    starting = [asyncio.create_task(start(child)) for child in children]
    try:
        await asyncio.gather(*starting)
    finally:
        for task in starting:
            task.cancel()
        await asyncio.gather(*starting, return_exceptions=True)
