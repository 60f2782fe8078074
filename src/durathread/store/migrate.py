"""Brings the database to the version that this code needs."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.store.postgres import PostgresStore
from psycopg.rows import DictRow, dict_row

LOCK = 0x64757261  # "dura"
TRY_LOCK = "SELECT pg_try_advisory_lock(%s) AS taken"
UNLOCK = "SELECT pg_advisory_unlock(%s)"


def upgrade(database_url: str) -> None:
    """Create or upgrade LangGraph's tables and ours. Safe to run at once from many processes."""
    connected = psycopg.Connection[DictRow].connect(
        database_url, autocommit=True, prepare_threshold=0, row_factory=dict_row
    )
    with connected as conn, _alone(conn):
        PostgresSaver(conn).setup()
        PostgresStore(conn).setup()
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.set_main_option("path_separator", "os")
        engine = sqlalchemy.create_engine(_sqlalchemy_url(database_url), poolclass=sqlalchemy.NullPool)
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


@contextmanager
def _alone(conn: psycopg.Connection[DictRow]) -> Generator[None]:
    # Polled, not waited for: a waiting statement would hold a snapshot, and `CREATE INDEX CONCURRENTLY`
    # in the process that has the lock waits for all snapshots.
    while not conn.execute(TRY_LOCK, (LOCK,)).fetchall()[0]["taken"]:
        time.sleep(0.05)
    try:
        yield
    finally:
        conn.execute(UNLOCK, (LOCK,))


def _sqlalchemy_url(database_url: str) -> str:
    _, _, rest = database_url.partition("://")
    return f"postgresql+psycopg://{rest}"
