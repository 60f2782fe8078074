"""Assistants: what reads and changes their rows."""

from collections.abc import Mapping
from typing import Any, Literal, LiteralString
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from durathread.db.filters import SHOWN, Filter, shown
from durathread.db.pool import Connection
from durathread.db.searches import Searched
from durathread.records import Assistant, JsonObject

SortBy = Literal["assistant_id", "graph_id", "name", "created_at", "updated_at"]

COLUMNS: LiteralString = (
    "assistant_id, graph_id, name, description, config, context, metadata, version, created_at, updated_at"
)
GET: LiteralString = f"SELECT {COLUMNS} FROM assistant WHERE assistant_id = %(id)s AND {SHOWN}"
LOCK: LiteralString = f"{GET} FOR UPDATE"
UPSERT_SYSTEM = """
INSERT INTO assistant (assistant_id, graph_id, name, description, config, metadata)
VALUES (%(id)s, %(graph)s, %(name)s, %(description)s, %(config)s, '{"created_by": "system"}')
ON CONFLICT (assistant_id) DO UPDATE SET name = EXCLUDED.name, description = EXCLUDED.description,
    config = CASE assistant.version WHEN 1 THEN EXCLUDED.config ELSE assistant.config END
WHERE (assistant.name, assistant.description) IS DISTINCT FROM (EXCLUDED.name, EXCLUDED.description)
   OR (assistant.version = 1 AND assistant.config <> EXCLUDED.config)
"""
FIRST_CONFIG = """
UPDATE assistant_version SET config = %(config)s WHERE assistant_id = %(id)s AND version = 1 AND config <> %(config)s
"""
INSERT: LiteralString = f"""
INSERT INTO assistant (assistant_id, graph_id, name, description, config, context, metadata, holder)
VALUES (%(id)s, %(graph)s, %(name)s, %(description)s, %(config)s, %(context)s, %(metadata)s, %(holder)s)
ON CONFLICT (assistant_id) DO NOTHING RETURNING {COLUMNS}
"""
REVISE: LiteralString = f"""
UPDATE assistant SET graph_id = %(graph)s, name = %(name)s, description = %(description)s, config = %(config)s,
    context = %(context)s, metadata = %(metadata)s, updated_at = now(),
    version = 1 + (SELECT max(version) FROM assistant_version WHERE assistant_id = %(id)s)
WHERE assistant_id = %(id)s RETURNING {COLUMNS}
"""
RECORD_VERSION = """
INSERT INTO assistant_version
    (assistant_id, version, graph_id, name, description, config, context, metadata, created_at, holder)
SELECT assistant_id, version, graph_id, name, description, config, context, metadata, updated_at, holder
FROM assistant WHERE assistant_id = %(id)s ON CONFLICT DO NOTHING
"""
RESTORE: LiteralString = f"""
UPDATE assistant SET updated_at = now(), (graph_id, name, description, config, context, metadata, version) = (
    SELECT v.graph_id, v.name, v.description, v.config, v.context, v.metadata, v.version
    FROM assistant_version v WHERE v.assistant_id = %(id)s AND v.version = %(version)s)
WHERE assistant_id = %(id)s AND {SHOWN}
  AND EXISTS (SELECT 1 FROM assistant_version v WHERE v.assistant_id = %(id)s AND v.version = %(version)s)
RETURNING {COLUMNS}
"""
VERSIONS: LiteralString = f"""
SELECT assistant_id, graph_id, name, description, config, context, metadata, version, created_at, created_at AS updated_at
FROM assistant_version v WHERE assistant_id = %(id)s AND metadata @> %(metadata)s
  AND EXISTS (SELECT 1 FROM assistant a WHERE a.assistant_id = v.assistant_id AND {SHOWN})
ORDER BY version DESC LIMIT %(limit)s OFFSET %(offset)s
"""
DELETE: LiteralString = f"DELETE FROM assistant WHERE assistant_id = %(id)s AND {SHOWN}"
RUNS_IN_FLIGHT = """
SELECT thread_id, run_id FROM run WHERE assistant_id = %s AND status IN ('pending', 'running') ORDER BY seq
"""
THREADS = "SELECT thread_id FROM thread WHERE metadata @> %s AND NOT hidden"

# What a search can ask for: the condition that each filter adds.
CONDITIONS: Mapping[str, LiteralString] = {
    "metadata": "metadata @> %(metadata)s",
    "graph_id": "graph_id = %(graph_id)s",
    "name": "strpos(lower(name), lower(%(name)s)) > 0",
    "only": SHOWN,
}
ORDERS: Mapping[SortBy, LiteralString] = {
    "assistant_id": "assistant_id",
    "graph_id": "graph_id",
    "name": "name",
    "created_at": "created_at",
    "updated_at": "updated_at",
}
SEARCHED = Searched("assistant", "assistant_id", Assistant, CONDITIONS)


async def get(conn: Connection, assistant_id: UUID, *, visible_to: Filter | None = None) -> Assistant | None:
    """Read an assistant."""
    return await _one(conn, GET, {"id": assistant_id, "only": shown(visible_to)})


async def lock(conn: Connection, assistant_id: UUID, *, visible_to: Filter | None = None) -> Assistant | None:
    """Read an assistant that the caller's transaction is about to change."""
    return await _one(conn, LOCK, {"id": assistant_id, "only": shown(visible_to)})


async def upsert_system(
    conn: Connection, assistant_id: UUID, *, graph_id: str, name: str, description: str | None, config: JsonObject
) -> None:
    """Create the assistant that a graph has by itself, or bring it up to date; its config, as long as nobody has revised it."""
    args = {
        "id": assistant_id,
        "graph": graph_id,
        "name": name,
        "description": description,
        "config": Jsonb(config),
    }
    await conn.execute(UPSERT_SYSTEM, args)
    await conn.execute(RECORD_VERSION, args)
    await conn.execute(FIRST_CONFIG, args)


async def insert(
    conn: Connection,
    assistant_id: UUID,
    *,
    graph_id: str,
    name: str,
    description: str | None,
    config: JsonObject,
    context: JsonObject,
    metadata: JsonObject,
    holder: str | None = None,
) -> Assistant | None:
    """Create an assistant, as somebody's, with its first version; None if the id is taken. The caller holds a transaction."""
    args = {**_row(assistant_id, graph_id, name, description, config, context, metadata), "holder": holder}
    created = await _one(conn, INSERT, args)
    if created is not None:
        await conn.execute(RECORD_VERSION, args)
    return created


async def revise(conn: Connection, assistant: Assistant) -> Assistant | None:
    """Store an assistant's fields as its new, highest version. The caller has locked its row."""
    args = _row(
        assistant.assistant_id,
        assistant.graph_id,
        assistant.name,
        assistant.description,
        assistant.config,
        assistant.context,
        assistant.metadata,
    )
    revised = await _one(conn, REVISE, args)
    await conn.execute(RECORD_VERSION, args)
    return revised


async def restore(
    conn: Connection, assistant_id: UUID, version: int, *, visible_to: Filter | None = None
) -> Assistant | None:
    """Make an assistant what a version of it was; None if there is no such version."""
    return await _one(conn, RESTORE, {"id": assistant_id, "version": version, "only": shown(visible_to)})


async def versions(
    conn: Connection,
    assistant_id: UUID,
    *,
    metadata: JsonObject,
    limit: int,
    offset: int,
    visible_to: Filter | None = None,
) -> list[Assistant]:
    """List the versions of an assistant, newest first."""
    args = {
        "id": assistant_id,
        "metadata": Jsonb(metadata),
        "limit": limit,
        "offset": offset,
        "only": shown(visible_to),
    }
    async with conn.cursor(row_factory=class_row(Assistant)) as cur:
        return await (await cur.execute(VERSIONS, args)).fetchall()


async def search(
    conn: Connection,
    filters: Mapping[str, Any],
    *,
    limit: int,
    offset: int,
    sort_by: SortBy = "created_at",
    descending: bool = True,
) -> list[Assistant]:
    """Find assistants. `filters` are named as in `CONDITIONS`; those that are None or empty do not count."""
    return await SEARCHED.find(
        conn,
        _given(filters),
        columns=COLUMNS,
        order=ORDERS[sort_by],
        descending=descending,
        limit=limit,
        offset=offset,
    )


async def count(conn: Connection, filters: Mapping[str, Any], *, at_most: int | None = None) -> int:
    """Count the assistants that `search` would find without a limit, stopping at `at_most`."""
    return await SEARCHED.count(conn, _given(filters), at_most=at_most)


async def delete(conn: Connection, assistant_id: UUID, *, visible_to: Filter | None = None) -> bool:
    """Delete an assistant with its versions; say whether it was there."""
    return (await conn.execute(DELETE, {"id": assistant_id, "only": shown(visible_to)})).rowcount == 1


async def runs_in_flight(conn: Connection, assistant_id: UUID) -> dict[UUID, list[UUID]]:
    """Name the runs of an assistant that are pending or running, by thread."""
    found: dict[UUID, list[UUID]] = {}
    for row in await (await conn.execute(RUNS_IN_FLIGHT, (assistant_id,))).fetchall():
        found.setdefault(row["thread_id"], []).append(row["run_id"])
    return found


async def thread_ids(conn: Connection, assistant_id: UUID) -> list[UUID]:
    """Name the threads that an assistant was the last to run on."""
    rows = await conn.execute(THREADS, (Jsonb({"assistant_id": str(assistant_id)}),))
    return [row["thread_id"] for row in await rows.fetchall()]


def _given(filters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value or None for name, value in filters.items()}


def _row(
    assistant_id: UUID,
    graph_id: str,
    name: str,
    description: str | None,
    config: JsonObject,
    context: JsonObject,
    metadata: JsonObject,
) -> dict[str, Any]:
    return {
        "id": assistant_id,
        "graph": graph_id,
        "name": name,
        "description": description,
        "config": Jsonb(config),
        "context": Jsonb(context),
        "metadata": Jsonb(metadata),
    }


async def _one(conn: Connection, query: LiteralString, args: Any) -> Assistant | None:
    async with conn.cursor(row_factory=class_row(Assistant)) as cur:
        return await (await cur.execute(query, args)).fetchone()
