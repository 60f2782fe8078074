"""A Temporal server on which workflows soon continue as new."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from durathread.embedded import folder as folders
from durathread.embedded.ports import free_port
from durathread.embedded.temporal import Temporal

# A thread writes some fifteen events a run.
EVENTS = 50


class Hasty(Temporal):
    """A Temporal server that soon suggests to continue as new."""

    def command(self) -> list[str]:
        """Return the command line."""
        limit = f"limit.historyCount.suggestContinueAsNew={EVENTS}"
        return [*super().command(), "--dynamic-config-value", limit]


@asynccontextmanager
async def hasty_server(path: Path) -> AsyncGenerator[str]:
    """Run such a server, and say where it is."""
    with folders.opened(path) as folder:
        server = Hasty(folder, port=free_port(), ui_port=None, ephemeral=True)
        await server.start()
        try:
            yield server.address
        finally:
            server.kill()
            await server.stop()
