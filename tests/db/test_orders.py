"""A page of many threads is read by an index, whatever order is asked for."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from durathread.db.migrate import upgrade
from durathread.db.pool import Pool, connection, open_pool
from durathread.db.threads import ORDERS, SEARCHED
from durathread.embedded.engines import Engines
from tests.conftest import own_database

FILL = """
INSERT INTO thread (thread_id, metadata, created_at, updated_at, state_updated_at)
SELECT gen_random_uuid(), jsonb_build_object('user', 'u' || i % 100, 'graph_id', 'agent'), now() - make_interval(secs => i),
       now() - make_interval(secs => i * 7919 % 20000), now() - make_interval(secs => i * 7907 % 20000)
FROM generate_series(1, 20000) AS i
"""


@pytest.fixture(scope="module")
async def many(engine_set: Engines) -> AsyncIterator[Pool]:
    """A database with 20,000 threads."""
    async with own_database(engine_set) as url:
        await asyncio.to_thread(upgrade, url)
        async with open_pool(url, size=2) as pool:
            async with connection(pool) as conn:
                await conn.execute(FILL)
                await conn.execute("ANALYZE thread")
            yield pool


async def plan(pool: Pool, filters: dict[str, Any], *, order: Any, descending: bool) -> list[dict[str, Any]]:
    """List the nodes of the plan for a page, outermost first."""
    query, args = SEARCHED.query(filters, columns="thread_id, metadata", order=order, descending=descending)
    async with connection(pool) as conn:
        found = await conn.execute(f"EXPLAIN (FORMAT JSON) {query}", {**args, "limit": 10, "offset": 0})
        [row] = await found.fetchall()
    nodes, left = list[dict[str, Any]](), [row["QUERY PLAN"][0]["Plan"]]
    while left:
        node = left.pop(0)
        nodes.append(node)
        left += node.get("Plans", [])
    return nodes


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("order", ["created_at", "updated_at", "state_updated_at", "thread_id"])
@pytest.mark.parametrize("filters", [{}, {"metadata": {"graph_id": "agent"}}])
async def test_a_page_is_read_in_its_order(many: Pool, filters: dict[str, Any], order: Any, descending: bool) -> None:
    kinds = [node["Node Type"] for node in await plan(many, filters, order=ORDERS[order], descending=descending)]
    assert "Index Scan" in kinds
    assert not {"Seq Scan", "Sort"} & set(kinds), kinds


async def test_few_threads_are_found_by_their_metadata(many: Pool) -> None:
    nodes = await plan(many, {"metadata": {"user": "u7"}}, order=ORDERS["created_at"], descending=True)
    assert "Seq Scan" not in {node["Node Type"] for node in nodes}
    nodes = await plan(many, {"metadata": {"user": "nobody"}}, order=ORDERS["created_at"], descending=True)
    assert any(node.get("Index Name") in ("thread_metadata_idx", "thread_created_idx") for node in nodes)
