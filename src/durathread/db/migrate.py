"""Brings the database to the version that this code needs."""

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.store.postgres import PostgresStore
from psycopg.rows import DictRow

from durathread.db import schema
from durathread.db.exclusive import exclusive

# LangGraph takes fractions of a minute, but keeps whole ones: an item of half a minute would be gone at its first read.
FRACTIONAL_TTL = """
DO $$ BEGIN
    IF (SELECT atttypid FROM pg_attribute WHERE attrelid = 'store'::regclass AND attname = 'ttl_minutes') = 'int4'::regtype
    THEN ALTER TABLE store ALTER COLUMN ttl_minutes TYPE double precision;
    END IF;
END $$
"""


def upgrade(database_url: str) -> None:
    """Create or upgrade LangGraph's tables and ours. Safe to run at once from many processes.

    Raises:
        Unprepared: a later durathread has migrated the database.
    """
    with exclusive(database_url) as conn:
        _refuse_newer(conn)
        PostgresSaver(conn).setup()
        PostgresStore(conn).setup()
        conn.execute(FRACTIONAL_TTL)
        config = Config()
        config.set_main_option("script_location", str(schema.MIGRATIONS))
        config.set_main_option("path_separator", "os")
        engine = sqlalchemy.create_engine(_sqlalchemy_url(database_url), poolclass=sqlalchemy.NullPool)
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _refuse_newer(conn: psycopg.Connection[DictRow]) -> None:
    there = conn.execute(schema.TABLES).fetchall()[0]["durathread"]
    version = conn.execute(schema.VERSIONS["durathread"]).fetchall()[0]["version"] if there else None
    schema.Schema(version).refuse_newer()


def _sqlalchemy_url(database_url: str) -> str:
    _, _, rest = database_url.partition("://")
    return f"postgresql+psycopg://{rest}"
