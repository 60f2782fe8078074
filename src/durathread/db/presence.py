"""How others see that a worker process is there: a lock that Postgres takes from it when it dies.

It is held by a session of its own. The kernel closes that session when the process ends, whatever ends it, and keeps it when
the process is frozen. Behind a pooler that shares sessions between transactions it says nothing: no death is then seen here.
"""

import asyncio
import contextlib
import secrets
from datetime import datetime

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row

from durathread.db.pool import Connection

log = structlog.get_logger()

TAKE = "SELECT pg_try_advisory_lock(%s) AS taken, pg_postmaster_start_time() AS boot"
# Not to be ended for being idle, and found to be gone if its machine is.
ENDURE = """
SELECT set_config(name, value, false)
FROM (VALUES ('idle_session_timeout', '0'), ('tcp_keepalives_idle', '15'), ('tcp_keepalives_interval', '5'),
             ('tcp_keepalives_count', '3')) AS wanted (name, value)
WHERE name IN (SELECT s.name FROM pg_settings s)
"""
LET_GO = "UPDATE run SET claimant = NULL WHERE claimant = %s AND status IN ('pending', 'running')"
# Whether the one who has claimed a run is gone for certain.
IS_GONE = """(claimant_boot = pg_postmaster_start_time() AND NOT EXISTS (
    SELECT 1 FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND l.classid::bigint = claimant >> 32 AND l.objid::bigint = claimant & 4294967295
))"""

# How long a worker that starts waits for its lock; and how long it waits between tries. In seconds.
FIRST = 2.0
LOCK_RETRY = 0.5
# A session that nothing ends may hold the lock for ever, behind a pooler: it is asked less and less often, in seconds.
LONGEST_LOCK_RETRY = 30.0
# How often a session is used, so that nothing between us and Postgres takes it for abandoned. In seconds.
USE = 30.0


class Held(psycopg.OperationalError):
    """Another session holds the lock of this worker."""


class Presence:
    """The number of this worker process, and whether its lock is held."""

    def __init__(self, database_url: str) -> None:
        """Choose a number."""
        self.worker = secrets.randbits(63)
        self.boot: datetime | None = None
        """When the Postgres was started that holds the lock; None while none does."""
        self.held = asyncio.Event()
        self._url = database_url

    async def soon(self) -> None:
        """Wait for the lock to be held; not for long, since all but the count of deaths goes on without it."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.held.wait(), FIRST)

    async def run(self) -> None:
        """Hold the lock, and take it again when Postgres is back, until cancelled."""
        pause, last = LOCK_RETRY, ""
        while True:
            try:
                async with await self._connect() as conn:
                    await self._hold(conn)
            except psycopg.Error as error:
                if not isinstance(error, Held):
                    pause = LOCK_RETRY
                if self.boot is not None:
                    last = ""
                if (said := str(error).strip()) != last:
                    log.info("This worker's session with Postgres was lost; it is opened again", error=said)
                last = said
            finally:
                self.boot = None
            await asyncio.sleep(pause)
            # Of an outage, `LOCK_RETRY` is the pause again.
            pause = min(pause * 1.5, LONGEST_LOCK_RETRY)

    async def _connect(self) -> AsyncConnection[DictRow]:
        return await AsyncConnection[DictRow].connect(
            self._url,
            autocommit=True,
            row_factory=dict_row,
            keepalives_idle=15,
            keepalives_interval=5,
            keepalives_count=3,
            # Keepalives say nothing while what was sent is not acknowledged.
            tcp_user_timeout=30_000,
            connect_timeout=10,
            application_name="durathread presence",
        )

    async def _hold(self, conn: AsyncConnection[DictRow]) -> None:
        await conn.execute(ENDURE)
        row = await (await conn.execute(TAKE, (self.worker,))).fetchone()
        if row is None or not row["taken"]:
            raise Held("the lock is still held by the session before")
        self.boot = row["boot"]
        self.held.set()
        while True:
            # Nobody notifies us: this ends when the session does.
            async for _ in conn.notifies(timeout=USE):
                pass
            await conn.execute("SELECT 1")


async def let_go(conn: Connection, worker: int) -> None:
    """Take a worker's name from what it had claimed: it ends in order, and nothing died of anything."""
    await conn.execute(LET_GO, (worker,))
