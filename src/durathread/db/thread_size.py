"""How much room a thread takes."""

from collections.abc import Mapping
from typing import LiteralString
from uuid import UUID

from durathread.db.pool import Connection
from durathread.records import JsonObject

# The size of what is stored, compressed as it is: `pg_column_size` of rows.
TABLES: Mapping[str, LiteralString] = {
    "thread": "SELECT count(*) AS rows, coalesce(sum(pg_column_size(t.*)), 0) AS bytes FROM thread t WHERE thread_id = %s",
    "run": "SELECT count(*) AS rows, coalesce(sum(pg_column_size(t.*)), 0) AS bytes FROM run t WHERE thread_id = %s",
    "checkpoints": """
        SELECT count(*) AS rows, coalesce(sum(pg_column_size(t.*)), 0) AS bytes FROM checkpoints t WHERE thread_id = %s::text
    """,
    "checkpoint_blobs": """
        SELECT count(*) AS rows, coalesce(sum(pg_column_size(t.*)), 0) AS bytes FROM checkpoint_blobs t
        WHERE thread_id = %s::text
    """,
    "checkpoint_writes": """
        SELECT count(*) AS rows, coalesce(sum(pg_column_size(t.*)), 0) AS bytes FROM checkpoint_writes t
        WHERE thread_id = %s::text
    """,
}
CHANNELS = """
SELECT channel, sum(rows)::bigint AS rows, sum(bytes)::bigint AS bytes FROM (
    SELECT channel, count(*) AS rows, coalesce(sum(octet_length(blob)), 0) AS bytes
    FROM checkpoint_blobs WHERE thread_id = %(thread)s GROUP BY channel
    UNION ALL
    SELECT channel, count(*), coalesce(sum(octet_length(blob)), 0)
    FROM checkpoint_writes WHERE thread_id = %(thread)s GROUP BY channel
) stored GROUP BY channel ORDER BY bytes DESC, channel
"""


async def of_thread(conn: Connection, thread_id: UUID) -> JsonObject:
    """Measure what is stored of a thread, in bytes, by table and by channel of its graph."""
    tables: JsonObject = {}
    for name, query in TABLES.items():
        [row] = await (await conn.execute(query, (thread_id,))).fetchall()
        tables[name] = {"rows": row["rows"], "bytes": row["bytes"]}
    found = await (await conn.execute(CHANNELS, {"thread": str(thread_id)})).fetchall()
    channels = {row["channel"]: {"rows": row["rows"], "bytes": row["bytes"]} for row in found}
    return {"total_bytes": sum(table["bytes"] for table in tables.values()), "tables": tables, "channels": channels}
