"""The store for callers who are subject to a filter: what does not pass it is not there."""

from collections.abc import Mapping
from typing import Any

from langgraph.store.base import Item, PutOp

from durathread.db import item_owners, stored
from durathread.db.filters import Filter
from durathread.db.memory_store import Items
from durathread.db.pool import Pool, connection, transaction
from durathread.records import Allowance, JsonObject


class GuardedItems:
    """Carries out what a client asks of the store, among the items that its filter lets through."""

    def __init__(self, pool: Pool, items: Items) -> None:
        """Take where the items are, and LangGraph's store of them."""
        self._pool = pool
        self._items = items
        self._ttl = items.ttl_config or {}

    async def put(self, op: PutOp, *, stamp: JsonObject | None, visible_to: Filter | None, room: Allowance) -> None:
        """Put an item, stamped if it is to be. A lifetime of None is that of langgraph.json.

        Raises:
            Conflict: another's item is there.
            Forbidden: with its stamp, the item would be another's.
            TooMany: whose it is has no room for it.
        """
        op = op if op.ttl is not None else op._replace(ttl=self._ttl.get("default_ttl"))
        # Users' code, or somebody else's service: no connection waits for it.
        await self._items.prepare([op])
        async with transaction(self._pool) as conn, stored.room(conn, room):
            if stamp is not None:
                await item_owners.claim(conn, op.namespace, op.key, stamp=stamp, visible_to=visible_to)
            await self._items.put_on(conn, op)
            if room.most is not None:
                await stored.mark_item(conn, op, holder=room.holder)

    async def get(
        self, namespace: tuple[str, ...], key: str, *, visible_to: Filter, refresh: bool | None
    ) -> Item | None:
        """Read an item. A `refresh` of None is what langgraph.json says."""
        wanted = self._ttl.get("refresh_on_read", True) if refresh is None else refresh
        async with connection(self._pool) as conn:
            return await item_owners.get(conn, namespace, key, visible_to=visible_to, refresh=wanted)

    async def delete(self, namespace: tuple[str, ...], key: str, *, visible_to: Filter) -> None:
        """Delete an item, if it is there."""
        async with connection(self._pool) as conn:
            await item_owners.delete(conn, namespace, key, visible_to=visible_to)

    async def namespaces(self, asked: Mapping[str, Any], *, visible_to: Filter) -> list[tuple[str, ...]]:
        """List the namespaces of items; see `stamps.namespaces`."""
        async with connection(self._pool) as conn:
            return await item_owners.namespaces(conn, asked, visible_to=visible_to)
