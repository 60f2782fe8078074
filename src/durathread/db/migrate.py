"""Brings the database to the version that this code needs: files of SQL in the order of their numbers, then the functions."""

import random
import time
from collections.abc import Callable
from typing import LiteralString, cast

import psycopg
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.store.postgres import PostgresStore
from psycopg.errors import DeadlockDetected, LockNotAvailable
from psycopg.rows import DictRow

from durathread.db import schema
from durathread.db.exclusive import exclusive
from durathread.errors import Unprepared

FUNCTIONS = schema.MIGRATIONS.parent / "functions.sql"

# The first Postgres that can replace a trigger in place.
OLDEST = 14
# LangGraph takes fractions of a minute, but keeps whole ones: an item of half a minute would be gone at its first read.
FRACTIONAL_TTL = """
DO $$ BEGIN
    IF (SELECT atttypid FROM pg_attribute WHERE attrelid = 'store'::regclass AND attname = 'ttl_minutes') = 'int4'::regtype
    THEN ALTER TABLE store ALTER COLUMN ttl_minutes TYPE double precision;
    END IF;
END $$
"""
# Alembic's table, which it once was: databases that Alembic has migrated go on as they are.
CREATE_VERSION = "CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"
# Less than `deadlock_timeout`, which is a second unless somebody has changed it.
SHORT_WAITS = "SET LOCAL lock_timeout = '300ms'"
# How long a migration tries to get hold of the tables, in seconds.
GIVE_UP = 60.0
FORGET_VERSION = "DELETE FROM alembic_version"
NOTE_VERSION = "INSERT INTO alembic_version VALUES (%s)"


def upgrade(database_url: str, *, to: str = schema.HEAD) -> None:
    """Create or upgrade LangGraph's tables and ours. Safe to run at once from many processes.

    Args:
        database_url: which database.
        to: the version to stop at. Only tests stop before the last, and have no functions of the last.

    Raises:
        Unprepared: a later durathread has migrated the database, its Postgres is too old, or somebody holds its tables.
    """
    with exclusive(database_url) as conn:
        if (major := conn.info.server_version // 10_000) < OLDEST:
            raise Unprepared(f"The database is Postgres {major}, and durathread needs {OLDEST} or later.")
        version = _version(conn)
        schema.Schema(version).refuse_newer()
        PostgresSaver(conn).setup()
        PostgresStore(conn).setup()
        conn.execute(FRACTIONAL_TTL)
        _give_way(conn, lambda: _migrate(conn, version or "", to))


def _migrate(conn: psycopg.Connection[DictRow], version: str, to: str) -> None:
    for path in schema.FILES:
        if version < path.name[:4] <= to:
            _apply(conn, path.read_text())
    conn.execute(CREATE_VERSION)
    conn.execute(FORGET_VERSION)
    conn.execute(NOTE_VERSION, (max(version, to),))
    if to == schema.HEAD:
        _apply(conn, FUNCTIONS.read_text())


def _give_way(conn: psycopg.Connection[DictRow], change: Callable[[], None]) -> None:
    """Change the schema, all or nothing, beside a server at work.

    A change holds the tables that it has come to, and servers write to them in any order: it lets go of all and begins again
    before Postgres would end one of the two for the deadlock.
    """
    end = time.monotonic() + GIVE_UP
    while True:
        try:
            with conn.transaction():
                conn.execute(SHORT_WAITS)
                change()
            return
        except (LockNotAvailable, DeadlockDetected) as error:
            if time.monotonic() > end:
                raise Unprepared(
                    f"A transaction has held a table of durathread for {GIVE_UP:.0f} s, and nothing was migrated: "
                    "end it (pg_stat_activity shows it), or try again."
                ) from error
            time.sleep(random.uniform(0.05, 0.5))


def _version(conn: psycopg.Connection[DictRow]) -> str | None:
    there = conn.execute(schema.TABLES).fetchall()[0]["durathread"]
    return conn.execute(schema.VERSIONS["durathread"]).fetchall()[0]["version"] if there else None


def _apply(conn: psycopg.Connection[DictRow], sql: str) -> None:
    # A file of ours. Many statements at once cannot be prepared.
    conn.execute(cast(LiteralString, sql), prepare=False)
