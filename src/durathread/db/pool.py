"""The one Postgres pool of a process, for rows and checkpoints alike."""

import os
import select
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TypeAlias

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from durathread.db.sealed import loads, plain
from durathread.errors import NotStored, Unavailable

log = structlog.get_logger()

Connection: TypeAlias = AsyncConnection[DictRow]

# How long a caller waits for a connection before it is told that the database is unavailable, in seconds.
POOL_TIMEOUT = 5.0
# After how long the pool gives up a connection that it cannot make, in seconds; whoever needs one next has it tried at once.
# Without an end, the waits between its tries grow as long as the outage was.
GIVE_UP = 4.0

# What may be an outage: whether it is, `is_outage` says.
TROUBLES = (Unavailable, psycopg.Error, PoolTimeout)

# Of SQLSTATEs: the connection was lost, the server has no resources, is stopping or starting, or cannot read its disk; a
# server that has become a replica; and one that took us for gone, since we had stalled within a transaction.
AWAY = ("08", "53", "57P", "58", "25006", "25P03")
# Others were at the same rows: the same again may well pass.
CLASHES = ("40", "55P03")


def is_outage(error: BaseException) -> bool:
    """Whether an error says that the database is away, and not that it refuses what it was asked."""
    if isinstance(error, Unavailable | PoolTimeout):
        return True
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is not None:
        return error.sqlstate.startswith(AWAY)
    # Without one it comes from the client: its connection was lost, or could not be made.
    if isinstance(error, psycopg.InterfaceError):
        return "closed" in str(error)
    return isinstance(error, psycopg.OperationalError)


def is_clash(error: BaseException) -> bool:
    """Whether a statement has lost against others: a deadlock, or a lock that was not to be had."""
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith(CLASHES)


class Pool(AsyncConnectionPool[Connection]):
    """A pool that lends no connection whose server is gone.

    Its own check waits between two of them, up to the whole time that a caller has: after a restart of the database, whose
    connections are all gone, nobody would be lent one.
    """

    async def getconn(self, timeout: float | None = None) -> Connection:  # noqa: ASYNC109, as in the base class
        """Lend a connection; the dead ones before it are replaced."""
        end = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            conn = await super().getconn(timeout=end - time.monotonic())
            try:
                if not await _is_gone(conn):
                    return conn
                await conn.close()
            except BaseException:
                await self.putconn(conn)
                raise
            await self.putconn(conn)


def refusal(error: psycopg.Error) -> NotStored:
    """Say in the database's own words what it refuses."""
    return NotStored(f"The database refused it: {error.diag.message_primary or error}")


@asynccontextmanager
async def open_pool(
    database_url: str, *, size: int, counting: bool = False, abandoned_after: float | None = None
) -> AsyncGenerator[Pool]:
    """Open a pool whose connections commit each statement unless a transaction is begun.

    Args:
        database_url: where Postgres is.
        size: the most connections.
        counting: whether what they write is counted by whose it is; see `db.stored`.
        abandoned_after: seconds after which the database ends a transaction that nothing goes on with. A process that is
            frozen within one holds what others wait for.
    """
    options = f"{_given(database_url)} -c timezone=UTC -c application_name=durathread".lstrip()
    if counting:
        options += " -c durathread.counts=on"
    if abandoned_after is not None:
        options += f" -c idle_in_transaction_session_timeout={round(abandoned_after * 1000)}"
    pool = Pool(
        database_url,
        connection_class=AsyncConnection[DictRow],
        kwargs={
            "autocommit": True,
            "prepare_threshold": 0,
            "row_factory": dict_row,
            "options": options,
        },
        min_size=2,
        max_size=size,
        timeout=POOL_TIMEOUT,
        reconnect_timeout=GIVE_UP,
        open=False,
    )
    await pool.open(wait=False)
    try:
        yield pool
    finally:
        await pool.close()


def _given(database_url: str) -> str:
    """Return the options that whoever runs the database wants, such as a schema: ours would take their place."""
    return str(conninfo_to_dict(database_url).get("options") or os.environ.get("PGOPTIONS", ""))


@asynccontextmanager
async def connection(pool: Pool) -> AsyncGenerator[Connection]:
    """Lend a connection.

    Raises:
        Unavailable: the database cannot be reached, or was lost on the way.
    """
    try:
        async with pool.connection() as conn:
            yield conn
    except (psycopg.Error, PoolTimeout) as error:
        if is_outage(error):
            raise Unavailable("The database is unavailable.") from error
        raise


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncGenerator[Connection]:
    """Lend a connection with a transaction begun, which commits unless the block raises."""
    async with connection(pool) as conn, conn.transaction():
        yield conn


async def wait_for_database(pool: Pool, *, patience: float) -> None:
    """Wait until the database answers: after a crash of everything, all start at once.

    Raises:
        Unavailable: it does not, for `patience` seconds.
    """
    end = time.monotonic() + patience
    while True:
        try:
            async with connection(pool) as conn:
                await conn.execute("SELECT 1")
                return
        except Unavailable as error:
            if time.monotonic() > end:
                raise
            log.warning("The database cannot be reached yet", error=str(error.__cause__))


async def _is_gone(conn: Connection) -> bool:
    """Find out whether the server of a connection is gone. A live one that idles has nothing to read."""
    poll = select.poll()
    poll.register(conn.fileno(), select.POLLIN)
    if not poll.poll(0):
        return False
    try:
        await conn.execute("")
    except psycopg.Error:
        return True
    return False


set_json_dumps(plain)
set_json_loads(loads)
