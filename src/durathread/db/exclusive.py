"""One process at a time changes the schema."""

import time
from collections.abc import Generator
from contextlib import contextmanager

import psycopg
from psycopg.rows import DictRow, dict_row

LOCK = 0x64757261  # "dura"
TRY_LOCK = "SELECT pg_try_advisory_lock(%s) AS taken"
UNLOCK = "SELECT pg_advisory_unlock(%s)"


@contextmanager
def exclusive(database_url: str) -> Generator[psycopg.Connection[DictRow]]:
    """Lend a connection, while no other process has one from here."""
    connected = psycopg.Connection[DictRow].connect(
        database_url, autocommit=True, prepare_threshold=0, row_factory=dict_row
    )
    with connected as conn:
        # Polled, not waited for: a waiting statement would hold a snapshot, and `CREATE INDEX CONCURRENTLY`
        # in the process that has the lock waits for all snapshots.
        while not conn.execute(TRY_LOCK, (LOCK,)).fetchall()[0]["taken"]:
            time.sleep(0.05)
        try:
            yield conn
        finally:
            conn.execute(UNLOCK, (LOCK,))
