"""Graphs that transform their streams, as clients of the SDK see them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langgraph_sdk import get_client

from tests.protocol.support import PATIENCE
from tests.stack import GRAPHS, Stack, running


@pytest.fixture(scope="module")
async def stack(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A server of graphs that need more than the other tests do."""
    own = {
        **environment,
        "DURATHREAD_TASK_QUEUE": "transformers",
        "PYTHONPATH": str(GRAPHS.parents[2]),
        "DURATHREAD_CONFIG": str(GRAPHS.parent / "transforming.json"),
    }
    async with running(own, tmp_path_factory.mktemp("transformers")) as found:
        yield found


async def test_the_sdk_reads_a_named_channel_as_an_extension(stack: Stack, thread_id: str) -> None:
    async with get_client(url=stack.url) as client, asyncio.timeout(PATIENCE):
        opened: Any = client.threads.stream(thread_id, assistant_id="counting")
        async with opened as thread:
            reading = asyncio.create_task(first(thread.extensions["progress"], 4))
            await thread.run.start(input={"messages": [{"role": "user", "content": "one two"}]})
            assert [each["payload"] for each in await reading] == [
                {"states": 1},
                {"states": 2},
                {"states": 3},
                {"all": 3},
            ]


async def first(projection: Any, count: int) -> list[Any]:
    """Read as many items."""
    found: list[Any] = []
    async for item in projection:
        found.append(item)
        if len(found) == count:
            break
    return found
