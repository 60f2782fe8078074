"""The engines that tests run on: embedded ones, or those of docker-compose.yml."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from durathread.embedded import engines as embedded
from durathread.embedded.engines import Engines
from tests.cluster.engines import cluster

ON_CLUSTER = os.environ.get("DURATHREAD_TEST_ENGINES") == "cluster"


@asynccontextmanager
async def engines(data: Path) -> AsyncGenerator[Engines]:
    """Start engines that may be killed, and stop them at the end."""
    async with cluster(data) if ON_CLUSTER else embedded.engines(data, ephemeral=True, headless=True) as started:
        yield started
