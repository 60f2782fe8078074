"""Assistants: what reads and changes their rows."""

from typing import LiteralString
from uuid import UUID

from psycopg.rows import class_row

from durathread.records import Assistant
from durathread.store.pool import Connection

COLUMNS: LiteralString = (
    "assistant_id, graph_id, name, description, config, context, metadata, version, created_at, updated_at"
)
GET: LiteralString = f"SELECT {COLUMNS} FROM assistant WHERE assistant_id = %s"
UPSERT_SYSTEM = """
INSERT INTO assistant (assistant_id, graph_id, name, description, metadata)
VALUES (%(id)s, %(graph)s, %(name)s, %(description)s, '{"created_by": "system"}')
ON CONFLICT (assistant_id) DO UPDATE SET name = EXCLUDED.name, description = EXCLUDED.description
WHERE (assistant.name, assistant.description) IS DISTINCT FROM (EXCLUDED.name, EXCLUDED.description)
"""
FIRST_VERSION = """
INSERT INTO assistant_version (assistant_id, version, graph_id, name, description, config, context, metadata, created_at)
SELECT assistant_id, version, graph_id, name, description, config, context, metadata, created_at
FROM assistant WHERE assistant_id = %(id)s ON CONFLICT DO NOTHING
"""


async def get(conn: Connection, assistant_id: UUID) -> Assistant | None:
    """Read an assistant."""
    async with conn.cursor(row_factory=class_row(Assistant)) as cur:
        return await (await cur.execute(GET, (assistant_id,))).fetchone()


async def upsert_system(
    conn: Connection, assistant_id: UUID, *, graph_id: str, name: str, description: str | None
) -> None:
    """Create the assistant that a graph has by itself, or bring its name and description up to date."""
    args = {"id": assistant_id, "graph": graph_id, "name": name, "description": description}
    await conn.execute(UPSERT_SYSTEM, args)
    await conn.execute(FIRST_VERSION, args)
