"""A page of many threads is read by an index, whatever order is asked for."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from durathread.db import due
from durathread.db.migrate import upgrade
from durathread.db.pool import Pool, connection, open_pool
from durathread.db.threads import ORDERS, SEARCHED
from durathread.embedded.engines import Engines
from tests.conftest import own_database

FILL = """
INSERT INTO thread (thread_id, metadata, status, created_at, updated_at, state_updated_at)
SELECT gen_random_uuid(), jsonb_build_object('user', 'u' || i % 100, 'graph_id', 'agent'),
       CASE WHEN i % 1000 = 0 THEN 'busy' WHEN i % 20 = 1 THEN 'error' WHEN i % 10 = 2 THEN 'interrupted' ELSE 'idle' END,
       now() - make_interval(secs => i),
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
                await conn.execute("VACUUM ANALYZE thread")
            yield pool


async def plan(pool: Pool, filters: dict[str, Any], *, order: Any, descending: bool) -> list[dict[str, Any]]:
    """List the nodes of the plan for a page, outermost first."""
    query, args = SEARCHED.query(filters, columns="thread_id, metadata", order=order, descending=descending)
    return await nodes_of(pool, query, {**args, "limit": 10, "offset": 0})


async def nodes_of(pool: Pool, query: Any, args: dict[str, Any]) -> list[dict[str, Any]]:
    """List the nodes of the plan for a query, outermost first."""
    async with connection(pool) as conn:
        explained: Any = f"EXPLAIN (FORMAT JSON) {query}"
        [row] = await (await conn.execute(explained, args)).fetchall()
    nodes, left = list[dict[str, Any]](), [row["QUERY PLAN"][0]["Plan"]]
    while left:
        node = left.pop(0)
        nodes.append(node)
        left += node.get("Plans", [])
    return nodes


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("order", ["created_at", "updated_at", "state_updated_at", "thread_id", "status"])
@pytest.mark.parametrize("filters", [{}, {"status": "idle"}, {"metadata": {"graph_id": "agent"}}])
async def test_a_page_is_read_in_its_order(many: Pool, filters: dict[str, Any], order: Any, descending: bool) -> None:
    kinds = [node["Node Type"] for node in await plan(many, filters, order=ORDERS[order], descending=descending)]
    assert "Index Scan" in kinds
    assert not {"Seq Scan", "Sort"} & set(kinds), kinds


async def test_few_threads_are_found_by_their_metadata(many: Pool) -> None:
    nodes = await plan(many, {"metadata": {"user": "u7"}}, order=ORDERS["created_at"], descending=True)
    assert "Seq Scan" not in {node["Node Type"] for node in nodes}
    nodes = await plan(many, {"metadata": {"user": "nobody"}}, order=ORDERS["created_at"], descending=True)
    assert any(node.get("Index Name") in ("thread_metadata_idx", "thread_created_idx") for node in nodes)


@pytest.mark.parametrize("status", ["busy", "error", "interrupted"])
async def test_threads_of_a_status_that_few_have_are_counted_without_reading_them(many: Pool, status: str) -> None:
    query, args = SEARCHED.counting({"status": status})
    nodes = await nodes_of(many, query, args)
    assert [node["Index Name"] for node in nodes if node["Node Type"] == "Index Only Scan"] == [
        "thread_shown_status_idx"
    ]
    assert "Seq Scan" not in {node["Node Type"] for node in nodes}


async def test_whether_anything_is_to_be_repaired_is_known_without_reading_all_threads(many: Pool) -> None:
    given = {"age": 15, "every": 20, "since": datetime.now(UTC), "compared": 300}
    nodes = await nodes_of(many, due.SWEEP, given) + await nodes_of(many, due.EXPIRY, {"every": 300})
    read = {node.get("Relation Name") for node in nodes if node["Node Type"] == "Seq Scan"}
    # Those of one row, or of none here.
    assert read <= {"deployment", "run", "outbox", "cron"}
