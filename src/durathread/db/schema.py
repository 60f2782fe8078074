"""The version that the database is at, and the one that this code needs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.store.postgres import PostgresStore

from durathread.db.pool import Connection
from durathread.errors import Unprepared

MIGRATIONS = Path(__file__).parent / "migrations"
FILES = sorted(MIGRATIONS.glob("*.sql"))
HEAD = FILES[-1].name[:4]
# LangGraph's own migrations are numbered from 0.
CHECKPOINTS = len(PostgresSaver.MIGRATIONS) - 1
STORE = len(PostgresStore.MIGRATIONS) - 1

TABLES = """
SELECT to_regclass('alembic_version') IS NOT NULL AS durathread,
       to_regclass('checkpoint_migrations') IS NOT NULL AS checkpoints,
       to_regclass('store_migrations') IS NOT NULL AS store
"""
VERSIONS: dict[str, LiteralString] = {
    "durathread": "SELECT max(version_num) AS version FROM alembic_version",
    "checkpoints": "SELECT max(v) AS version FROM checkpoint_migrations",
    "store": "SELECT max(v) AS version FROM store_migrations",
}


@dataclass(frozen=True)
class Schema:
    """What has been migrated: our tables, and LangGraph's. Nothing is None."""

    durathread: str | None = None
    checkpoints: int | None = None
    store: int | None = None

    @property
    def is_current(self) -> bool:
        """Whether nothing is left to be migrated."""
        return (
            self.durathread == HEAD
            and not self._lags(self.checkpoints, CHECKPOINTS)
            and not self._lags(self.store, STORE)
        )

    @property
    def is_newer(self) -> bool:
        """Whether a later durathread has migrated it."""
        return self.durathread is not None and self.durathread > HEAD

    def _lags(self, version: int | None, needed: int) -> bool:
        return version is None or version < needed

    def require(self) -> None:
        """Refuse a database that this code cannot work with.

        Raises:
            Unprepared: it is older, or newer; says what to do.
        """
        self.refuse_newer()
        if not self.is_current:
            raise Unprepared(
                f"The database is at version {self.durathread or 'none'}, and this durathread needs {HEAD}: "
                "run `durathread migrate`."
                if self.durathread != HEAD
                else "LangGraph's tables in the database are older than its packages: run `durathread migrate`."
            )

    def refuse_newer(self) -> None:
        """Refuse a database that a later durathread has migrated.

        Raises:
            Unprepared: it is newer than this code.
        """
        if self.is_newer:
            raise Unprepared(
                f"The database is at version {self.durathread}, and this durathread knows none after {HEAD}: "
                "install the durathread that has migrated it, or a later one."
            )


async def read(conn: Connection) -> Schema:
    """Read what the database is at."""
    there = (await (await conn.execute(TABLES)).fetchall())[0]
    found: dict[str, Any] = {}
    for name, query in VERSIONS.items():
        if there[name]:
            found[name] = (await (await conn.execute(query)).fetchall())[0]["version"]
    return Schema(**found)
