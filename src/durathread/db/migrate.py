"""Brings the database to the version that this code needs: files of SQL in the order of their numbers, then the functions."""

from typing import LiteralString, cast

import psycopg
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.store.postgres import PostgresStore
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
FORGET_VERSION = "DELETE FROM alembic_version"
NOTE_VERSION = "INSERT INTO alembic_version VALUES (%s)"


def upgrade(database_url: str, *, to: str = schema.HEAD) -> None:
    """Create or upgrade LangGraph's tables and ours. Safe to run at once from many processes.

    Args:
        database_url: which database.
        to: the version to stop at. Only tests stop before the last, and have no functions of the last.

    Raises:
        Unprepared: a later durathread has migrated the database, or its Postgres is too old.
    """
    with exclusive(database_url) as conn:
        if (major := conn.info.server_version // 10_000) < OLDEST:
            raise Unprepared(f"The database is Postgres {major}, and durathread needs {OLDEST} or later.")
        version = _version(conn)
        schema.Schema(version).refuse_newer()
        PostgresSaver(conn).setup()
        PostgresStore(conn).setup()
        conn.execute(FRACTIONAL_TTL)
        # All or none: what fails halfway leaves the version that was there.
        with conn.transaction():
            for path in schema.FILES:
                if (version or "") < path.name[:4] <= to:
                    _apply(conn, path.read_text())
            conn.execute(CREATE_VERSION)
            conn.execute(FORGET_VERSION)
            conn.execute(NOTE_VERSION, (max(version or "", to),))
            if to == schema.HEAD:
                _apply(conn, FUNCTIONS.read_text())


def _version(conn: psycopg.Connection[DictRow]) -> str | None:
    there = conn.execute(schema.TABLES).fetchall()[0]["durathread"]
    return conn.execute(schema.VERSIONS["durathread"]).fetchall()[0]["version"] if there else None


def _apply(conn: psycopg.Connection[DictRow], sql: str) -> None:
    # A file of ours. Many statements at once cannot be prepared.
    conn.execute(cast(LiteralString, sql), prepare=False)
