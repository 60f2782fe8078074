"""What tests of workflows share that run a worker in their own process."""

from collections.abc import Callable

import pytest

from durathread.config.settings import Settings
from durathread.db import assistants
from durathread.db.pool import connection, open_pool
from durathread.embedded.engines import Engines
from durathread.graphs.registry import Graphs, system_assistant_id
from durathread.plugin import DurathreadPlugin
from tests.stack import GRAPHS

MakePlugin = Callable[[], DurathreadPlugin]


@pytest.fixture(scope="session")
async def make_plugin(engine_set: Engines, database: str) -> MakePlugin:
    """Build plugins that serve tests/served. No API has to run: the assistant that it would create is there."""
    # One superstep an activity: what the workflows do with many is tested with few.
    settings = Settings(database_url=database, redis_url=engine_set.redis_url, config=GRAPHS, step_budget=0)
    graphs = Graphs.load(GRAPHS)
    async with open_pool(database, size=2) as pool, connection(pool) as conn:
        for name in ("agent", "plans"):
            found = system_assistant_id(name)
            await assistants.upsert_system(
                conn, found, graph_id=name, name=name, description=graphs.description(name), config={}
            )
    return lambda: DurathreadPlugin(settings, graphs=graphs)
