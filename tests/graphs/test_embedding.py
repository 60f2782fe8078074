"""Items that are found by what they mean: who embeds holds up nobody else, and never waits for itself."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from langgraph.store.base.embed import ensure_embeddings

from durathread.db.memory_store import Index, LoopStore, StoreConfig, open_store
from durathread.db.migrate import upgrade
from durathread.db.pool import Pool, open_pool
from durathread.embedded.engines import Engines
from durathread.graphs.embedding import OnGraphsLoop
from durathread.graphs.loops import GraphLoops
from tests.conftest import own_database

AT_ONCE = 2


def embed(texts: Sequence[str]) -> list[list[float]]:
    return [[float("cat" in text), float("car" in text), 0.1] for text in texts]


async def aembed(texts: Sequence[str]) -> list[list[float]]:
    return embed(texts)


@pytest.fixture(scope="module")
async def pool(engine_set: Engines) -> AsyncIterator[Pool]:
    """A database of these tests' own: it holds vectors."""
    async with own_database(engine_set) as url:
        upgrade(url)
        async with open_pool(url, size=4) as opened:
            yield opened


@pytest.fixture
async def loops() -> AsyncIterator[GraphLoops]:
    """Loops that wait long for a node that blocks the one that it needs."""
    opened = GraphLoops(patience=120)
    watching = asyncio.create_task(opened.watch())
    yield opened
    watching.cancel()
    opened.close()


def config(function: Callable[[Sequence[str]], Any], loops: GraphLoops) -> StoreConfig:
    return StoreConfig(Index(3, OnGraphsLoop(ensure_embeddings(function), loops)))


@pytest.mark.parametrize("function", [embed, aembed])
async def test_a_node_that_blocks_the_loop_for_the_store_gets_its_answer(
    pool: Pool, loops: GraphLoops, function: Callable[[Sequence[str]], Any]
) -> None:
    namespace = (function.__name__,)
    async with open_store(pool, config(function, loops)) as items:
        store = LoopStore(items, at_once=AT_ONCE)

        async def node() -> list[str]:
            store.put(namespace, "animal", {"text": "a cat"})
            store.put(namespace, "vehicle", {"text": "a car"})
            return [item.key for item in store.search(namespace, query="cats")]

        async with asyncio.timeout(30):
            assert await loops.run(node, graph_id="graph") == ["animal", "vehicle"]
            # Threads, in which nodes that are not asynchronous run, have no loop to block.
            assert await loops.run(lambda: asyncio.to_thread(asyncio.run, node()), graph_id="graph")
            found = await asyncio.to_thread(store.search, namespace, query="cars")
        assert [item.key for item in found] == ["vehicle", "animal"]


async def test_embedding_that_takes_long_holds_up_nobody_else(pool: Pool, loops: GraphLoops) -> None:
    gate, asked = asyncio.Event(), list[str]()
    main = asyncio.get_running_loop()

    async def opened() -> None:
        await gate.wait()

    async def slow(texts: Sequence[str]) -> list[list[float]]:
        asked.extend(texts)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(opened(), main))
        return embed(texts)

    async with open_store(pool, config(slow, loops)) as items:
        store = LoopStore(items, at_once=AT_ONCE)
        searches = [asyncio.create_task(store.asearch(("slow",), query=f"q{n}")) for n in range(AT_ONCE + 1)]
        async with asyncio.timeout(20):
            assert await store.aget(("other",), "k") is None
        assert not any(search.done() for search in searches)
        gate.set()
        await asyncio.gather(*searches)
    assert sorted(asked) == [f"q{n}" for n in range(AT_ONCE + 1)]
