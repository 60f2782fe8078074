"""Whose the items of the store are: what an auth handler stamps on them, and what its filters let through.

An item that was put by a client whose handler filters, or stamps, carries that stamp, and a filter is compared with it. One
that carries none was put by a graph, or where nobody filters: a filter is then compared with its value.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

from langgraph.store.base import Item
from psycopg.types.json import Jsonb

from durathread.db.filters import Filter, shown
from durathread.db.marked import unmarked
from durathread.db.pool import Connection
from durathread.errors import Conflict, Forbidden
from durathread.records import JsonObject

LIVE: LiteralString = "(store.expires_at IS NULL OR store.expires_at > now())"
PASSES: LiteralString = "coalesce(store.durathread_stamp, store.value) @> ANY(%(only)s::jsonb[])"
ALLOWED: LiteralString = f"(%(only)s::jsonb[] IS NULL OR {PASSES})"
# The row is there, and locked, before its value is: who comes at the same time finds whose it is.
CLAIM: LiteralString = f"""
INSERT INTO store (prefix, key, value, durathread_stamp) VALUES (%(prefix)s, %(key)s, '{{}}', %(stamp)s)
ON CONFLICT (prefix, key) DO UPDATE SET durathread_stamp = CASE WHEN {LIVE}
    THEN coalesce(store.durathread_stamp, '{{}}') || excluded.durathread_stamp ELSE excluded.durathread_stamp END
WHERE NOT {LIVE} OR {ALLOWED}
RETURNING %(only)s::jsonb[] IS NULL OR durathread_stamp @> ANY(%(only)s::jsonb[]) AS passes
"""
GET: LiteralString = f"""
WITH refreshed AS (
    UPDATE store SET expires_at = now() + (ttl_minutes || ' minutes')::interval
    WHERE prefix = %(prefix)s AND key = %(key)s AND %(refresh)s AND ttl_minutes IS NOT NULL AND {LIVE} AND {PASSES}
)
SELECT value, created_at, updated_at FROM store
WHERE prefix = %(prefix)s AND key = %(key)s AND {LIVE} AND {PASSES}
"""
DELETE: LiteralString = f"DELETE FROM store WHERE prefix = %(prefix)s AND key = %(key)s AND {PASSES}"
NAMESPACES: LiteralString = f"""
SELECT DISTINCT (string_to_array(prefix, '.'))[:coalesce(%(depth)s, 2147483647)] AS namespace FROM store
WHERE {LIVE} AND {PASSES} AND prefix ~ %(begin)s AND prefix ~ %(end)s
ORDER BY namespace LIMIT %(limit)s OFFSET %(offset)s
"""


async def claim(
    conn: Connection, namespace: Sequence[str], key: str, *, stamp: JsonObject, visible_to: Filter | None
) -> None:
    """Stamp an item that the caller's transaction is about to put.

    Raises:
        Conflict: another's item is there.
        Forbidden: with its stamp, the item would be another's.
    """
    args = {**_named(namespace, key), "stamp": Jsonb(stamp), "only": shown(visible_to)}
    row = await (await conn.execute(CLAIM, args)).fetchone()
    if row is None:
        raise Conflict("The item exists already.")
    if not row["passes"]:
        raise Forbidden("Forbidden")


async def get(
    conn: Connection, namespace: Sequence[str], key: str, *, visible_to: Filter, refresh: bool
) -> Item | None:
    """Read an item that the filter lets through, and let its lifetime begin anew if asked to."""
    args = {**_named(namespace, key), "only": shown(visible_to), "refresh": refresh}
    row = await (await conn.execute(GET, args)).fetchone()
    return Item(namespace=tuple(namespace), key=key, **{**row, "value": unmarked(row["value"])}) if row else None


async def delete(conn: Connection, namespace: Sequence[str], key: str, *, visible_to: Filter) -> None:
    """Delete an item, if the filter lets it through."""
    await conn.execute(DELETE, {**_named(namespace, key), "only": shown(visible_to)})


async def namespaces(conn: Connection, asked: Mapping[str, Any], *, visible_to: Filter) -> list[tuple[str, ...]]:
    """List the namespaces of items that the filter lets through: `prefix`, `suffix`, `max_depth`, `limit` and `offset`."""
    begin, end = _pattern(asked["prefix"]), _pattern(asked["suffix"])
    args = {
        "begin": rf"^{begin}(\.|$)" if begin else "",
        "end": rf"(^|\.){end}$" if end else "",
        "depth": asked["max_depth"],
        "limit": asked["limit"],
        "offset": asked["offset"],
        "only": shown(visible_to),
    }
    rows = await (await conn.execute(NAMESPACES, args)).fetchall()
    return [tuple(row["namespace"]) for row in rows]


def _named(namespace: Sequence[str], key: str) -> dict[str, Any]:
    return {"prefix": ".".join(namespace), "key": key}


def _pattern(labels: Sequence[str]) -> str:
    return r"\.".join("[^.]+" if label == "*" else re.escape(label) for label in labels)
