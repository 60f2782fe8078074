"""What a role of the server makes sure of before it starts: that its engines are there, and are what it needs."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import NoReturn, TypeVar

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from redis.exceptions import RedisError
from temporalio.service import RPCError

from durathread.config.settings import Settings
from durathread.db import deployment as deployments
from durathread.db.deployment import Deployment
from durathread.db.pool import Connection
from durathread.deployment import task_queue
from durathread.errors import ConfigError, Unavailable
from durathread.streams.valkey import connect as connect_valkey
from durathread.temporal import namespace
from durathread.temporal.connection import connect

log = structlog.get_logger()

T = TypeVar("T")

FIRST_PAUSE, LAST_PAUSE = 0.5, 2.0
# How long Postgres may take to accept a connection, in seconds.
CONNECTING = 5


def stop_at_once(code: int = 0) -> None:
    """Let SIGTERM and SIGINT end this process at once, until others take them: nothing is under way that must be finished.

    The handler runs wherever Python is: in the import of a graph as well as in the event loop.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: leave(code))


def leave(code: int = 0) -> NoReturn:
    """End this process before it has started."""
    with suppress(Exception):
        log.info("Stopped before it has started")
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


async def prepared(settings: Settings) -> Settings:
    """Wait for the engines, and make sure that runs can be served on them; return the settings with their task queue.

    Raises:
        Unavailable: Postgres or Temporal cannot be reached, for as long as the settings say.
        Unprepared: one of them is not what this server needs; says what to do.
    """
    deployment = await identity(settings)
    found = settled(settings, deployment)
    client = await connect(patience=settings.start_patience)
    await answered(lambda: namespace.check(client), patience=settings.start_patience)
    await answered(
        lambda: task_queue.claim(client, deployment, task_queue=found.task_queue), patience=settings.start_patience
    )
    await _greet_valkey(settings)
    return found


def settled(settings: Settings, deployment: Deployment) -> Settings:
    """Fill in what settings leave to the database: the task queue."""
    return settings.model_copy(update={"task_queue": settings.task_queue or deployment.task_queue})


async def identity(settings: Settings) -> Deployment:
    """Wait for the database, and read who it is.

    Raises:
        Unavailable: it cannot be reached, for as long as the settings say.
        Unprepared: it is not migrated to the version of this code.
    """
    return await reading(settings, deployments.get)


async def reading(settings: Settings, read: Callable[[Connection], Awaitable[T]]) -> T:
    """Read something on a connection of its own, as soon as there is a database.

    Raises:
        Unavailable: it cannot be reached, for as long as the settings say.
    """

    async def attempt() -> T:
        try:
            async with connected(settings.database_url) as conn:
                return await read(conn)
        except psycopg.OperationalError as error:
            raise Unavailable(f"Postgres cannot be used: {one_line(error)}") from error

    return await patiently(attempt, what="Postgres", patience=settings.start_patience)


@asynccontextmanager
async def connected(database_url: str) -> AsyncGenerator[Connection]:
    """Lend a connection that belongs to no pool.

    Raises:
        ConfigError: the URL is none.
        OperationalError: the database cannot be reached.
    """
    try:
        conninfo_to_dict(database_url)
    except psycopg.ProgrammingError as error:
        # Without the URL, which holds a password.
        raise ConfigError("DATABASE_URL is no connection string of Postgres.") from error
    conn = await AsyncConnection[DictRow].connect(
        database_url, autocommit=True, prepare_threshold=None, row_factory=dict_row, connect_timeout=CONNECTING
    )
    async with conn:
        yield conn


async def answered(ask: Callable[[], Awaitable[T]], *, patience: float) -> T:
    """Ask Temporal something, again while it does not answer.

    Raises:
        Unavailable: it does not, for `patience` seconds.
    """

    async def attempt() -> T:
        try:
            return await ask()
        except RPCError as error:
            raise Unavailable(f"Temporal does not answer: {error.status.name}: {error.message}") from error

    return await patiently(attempt, what="Temporal", patience=patience)


async def patiently(attempt: Callable[[], Awaitable[T]], *, what: str, patience: float) -> T:
    """Try until an engine is available, with a line in the log each time that it is not.

    Raises:
        Unavailable: it is not, for `patience` seconds.
    """
    end, pause = time.monotonic() + patience, FIRST_PAUSE
    while True:
        try:
            return await attempt()
        except Unavailable as error:
            if time.monotonic() + pause > end:
                raise
            log.warning(f"{what} cannot be used yet", error=str(error))
        await asyncio.sleep(pause)
        pause = min(pause * 2, LAST_PAUSE)


def one_line(error: BaseException) -> str:
    """Put what an engine says into one line."""
    return " ".join(str(error).split())


async def _greet_valkey(settings: Settings) -> None:
    """Say if Valkey is away. Nothing waits for it: runs need it as little at the start as later."""
    try:
        redis = connect_valkey(settings.redis_url)
    except ValueError as error:
        raise ConfigError("REDIS_URL is no URL of a Valkey or Redis server.") from error
    try:
        await redis.ping()
    except (RedisError, OSError) as error:
        log.warning("Valkey cannot be reached: runs are executed, but nobody sees their events", error=str(error))
    finally:
        await redis.aclose()
