"""How rows are searched and counted, whatever they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, LiteralString, TypeVar

from psycopg.rows import class_row

from durathread.db.filters import parameter
from durathread.db.pool import Connection

Row = TypeVar("Row")


@dataclass(frozen=True)
class Searched(Generic[Row]):
    """A table that is searched.

    Args:
        table: its name.
        key: the column that orders rows which are alike otherwise.
        row: what a row is read as.
        conditions: what each filter adds, by its name. Filters that are None add nothing.
        always: a condition of every search.
        nulls: where rows go that lack what is sorted by, if that can be.
    """

    table: LiteralString
    key: LiteralString
    row: type[Row]
    conditions: Mapping[str, LiteralString]
    always: LiteralString = "TRUE"
    nulls: LiteralString = ""

    async def find(
        self,
        conn: Connection,
        filters: Mapping[str, Any],
        *,
        columns: LiteralString,
        order: LiteralString,
        descending: bool,
        limit: int,
        offset: int,
    ) -> list[Row]:
        """Return a page of the rows that pass all filters."""
        query, args = self.query(filters, columns=columns, order=order, descending=descending)
        async with conn.cursor(row_factory=class_row(self.row)) as cur:
            return await (await cur.execute(query, {**args, "limit": limit, "offset": offset})).fetchall()

    def query(
        self, filters: Mapping[str, Any], *, columns: LiteralString, order: LiteralString, descending: bool
    ) -> tuple[LiteralString, dict[str, Any]]:
        """Build what finds a page; it takes a `limit` and an `offset` too."""
        where, args = self._where(filters)
        direction = "DESC" if descending else "ASC"
        query: LiteralString = (
            f"SELECT {columns} FROM {self.table} WHERE {where} ORDER BY {order} {direction}{self.nulls}, {self.key} {direction} "
            "LIMIT %(limit)s OFFSET %(offset)s"
        )
        return query, args

    async def count(self, conn: Connection, filters: Mapping[str, Any], *, at_most: int | None = None) -> int:
        """Count the rows that pass all filters, stopping at `at_most`."""
        query, args = self.counting(filters, at_most=at_most)
        return (await (await conn.execute(query, args)).fetchall())[0]["n"]

    def counting(
        self, filters: Mapping[str, Any], *, at_most: int | None = None
    ) -> tuple[LiteralString, dict[str, Any]]:
        """Build what counts."""
        where, args = self._where(filters)
        query: LiteralString = (
            f"SELECT count(*) AS n FROM (SELECT 1 FROM {self.table} WHERE {where} LIMIT %(at_most)s) AS found"
        )
        return query, {**args, "at_most": at_most}

    def _where(self, filters: Mapping[str, Any]) -> tuple[LiteralString, dict[str, Any]]:
        given = {name: value for name, value in filters.items() if value is not None}
        where = " AND ".join([self.always, *[self.conditions[name] for name in given]])
        return where, {name: parameter(value) for name, value in given.items()}
