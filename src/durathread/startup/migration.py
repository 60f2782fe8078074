"""Prepares the engines for this version, and says what is left to prepare: `durathread migrate`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import psycopg
from temporalio.client import Client

from durathread.config.settings import Settings
from durathread.db import schema
from durathread.db.migrate import upgrade
from durathread.deployment import task_queue
from durathread.errors import Unavailable, Unprepared
from durathread.startup.preflight import answered, identity, one_line, reading, settled, stop_at_once
from durathread.temporal import namespace
from durathread.temporal.connection import address_of, connect
from durathread.temporal.namespace import NAMES, TYPE

# What the shell says of a process that SIGTERM has ended.
STOPPED = 143


def run(settings: Settings, *, say: Callable[[str], None], claim: bool = False) -> int:
    """Prepare the engines, saying each thing that is done; return the exit code.

    Raises:
        Unavailable: an engine cannot be reached, for as long as the settings say.
        Unprepared: somebody else must act; says who, and how.
    """

    async def work() -> int:
        async for line in steps(settings, claim=claim):
            say(line)
        return 0

    return _to_the_end(work())


def show(settings: Settings, *, say: Callable[[str], None]) -> int:
    """Say what the engines are at, and change nothing; return 1 if there is anything to do.

    Raises:
        Unavailable: an engine cannot be reached.
    """

    async def work() -> int:
        now = settings.model_copy(update={"start_patience": 0})
        is_current = await _show_database(now, say)
        client = await connect()
        is_prepared = await _show_namespace(client, say)
        if is_current:
            say(f"task queue    {settled(now, await identity(now)).task_queue}")
        if is_current and is_prepared:
            say("There is nothing to do.")
            return 0
        say("Run `durathread migrate`.")
        return 1

    return _to_the_end(work())


def _to_the_end(work: Coroutine[Any, Any, int]) -> int:
    stop_at_once(STOPPED)
    return asyncio.run(work)


async def steps(settings: Settings, *, claim: bool = False) -> AsyncIterator[str]:
    """Prepare the engines, one after the other, and say what was done.

    Raises:
        Unavailable: an engine cannot be reached, for as long as the settings say.
        Unprepared: somebody else must act; says who, and how.
    """
    before = await reading(settings, schema.read)
    before.refuse_newer()
    await asyncio.to_thread(_upgrade, settings.database_url)
    yield f"The database is at version {schema.HEAD}; it was at {before.durathread or 'none'}."
    deployment = await identity(settings)
    client = await connect(patience=settings.start_patience)
    added = await answered(lambda: namespace.register(client), patience=settings.start_patience)
    where = f"Temporal's namespace '{client.namespace}'"
    yield f"{where} has got search attributes: {', '.join(added)}." if added else f"{where} has its search attributes."
    queue = settled(settings, deployment).task_queue
    take = task_queue.take_over if claim else task_queue.claim
    await answered(lambda: take(client, deployment, task_queue=queue), patience=settings.start_patience)
    yield f"Task queue '{queue}' belongs to this database."


def _upgrade(database_url: str) -> None:
    try:
        upgrade(database_url)
    except psycopg.OperationalError as error:
        raise Unavailable(f"Postgres cannot be used: {one_line(error)}") from error
    except psycopg.Error as error:
        raise Unprepared(f"The database cannot be migrated: {one_line(error)}") from error


async def _show_database(settings: Settings, say: Callable[[str], None]) -> bool:
    found = await reading(settings, schema.read)
    versions = (
        ("database", found.durathread, schema.HEAD),
        ("checkpoints", found.checkpoints, schema.CHECKPOINTS),
        ("store", found.store, schema.STORE),
    )
    for name, version, needed in versions:
        say(f"{name:<13} {'none' if version is None else version}, needed: {needed}")
    found.refuse_newer()
    return found.is_current


async def _show_namespace(client: Client, say: Callable[[str], None]) -> bool:
    say(f"namespace     {client.namespace} at {address_of(client)}")
    await answered(lambda: namespace.describe(client), patience=0)
    wrong = await answered(lambda: namespace.examine(client), patience=0)
    for name in NAMES:
        say(f"{name:<13} {'missing' if name in wrong.missing else wrong.mistyped.get(name, TYPE)}, needed: {TYPE}")
    return not wrong
