"""Migrations: each file of SQL is applied once, and the functions are those of functions.sql."""

import asyncio
import re

import psycopg
import pytest
from psycopg import sql

from durathread.db import migrate
from durathread.db.migrate import upgrade
from durathread.db.pool import Pool, connection
from durathread.db.schema import FILES, HEAD
from durathread.embedded.engines import Engines
from durathread.errors import Unprepared
from tests.conftest import own_database
from tests.eventually import eventually

# The last that defined functions: what they became since is in functions.sql.
LAST_WITH_FUNCTIONS = "0007"
DEFINED = re.compile(r"CREATE (?:OR REPLACE )?(?:FUNCTION|TRIGGER) (\w+)")
INDEX = "SELECT 1 FROM pg_indexes WHERE indexname = 'thread_hidden_idx'"
OURS = """
SELECT proname AS name, pg_get_functiondef(oid) AS text FROM pg_proc
WHERE pronamespace = 'public'::regnamespace AND prokind = 'f' AND probin IS NULL
UNION ALL SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
ORDER BY 1, 2
"""
VERSIONS = "SELECT version_num FROM alembic_version"


def test_the_numbers_of_migrations_follow_each_other() -> None:
    assert [path.name[:4] for path in FILES] == [f"{number:04}" for number in range(1, len(FILES) + 1)]
    assert FILES[-1].name.startswith(HEAD)


def test_functions_are_changed_in_functions_sql_and_not_by_migrations() -> None:
    """`migrate` applies that file last, so a migration's definition would not last."""
    for path in FILES:
        if path.name[:4] > LAST_WITH_FUNCTIONS:
            assert not DEFINED.findall(path.read_text()), f"{path.name}: put it into functions.sql"


async def test_a_database_that_was_migrated_has_what_the_last_of_them_brings(pool: Pool) -> None:
    async with connection(pool) as conn:
        assert await (await conn.execute(INDEX)).fetchone()


async def test_functions_sql_holds_every_function_and_trigger_and_restores_each(engine_set: Engines) -> None:
    async with own_database(engine_set) as url:
        upgrade(url)
        with psycopg.connect(url, autocommit=True) as conn:
            before = conn.execute(OURS).fetchall()
            named = set(DEFINED.findall(migrate.FUNCTIONS.read_text()))
            assert named == {name for name, _ in before}
            conn.execute("CREATE OR REPLACE FUNCTION row_bytes() RETURNS BIGINT LANGUAGE sql AS $$ SELECT 1::bigint $$")
            conn.execute("DROP TRIGGER owe_webhook_of_ended ON run")
            upgrade(url)
            assert conn.execute(OURS).fetchall() == before


async def test_a_database_that_alembic_has_migrated_goes_on_from_its_version(engine_set: Engines) -> None:
    """Its table is as Alembic made it, with the version of the last migration that it has run."""
    async with own_database(engine_set) as url:
        upgrade(url, to="0015")
        with psycopg.connect(url, autocommit=True) as conn:
            assert conn.execute(VERSIONS).fetchall() == [("0015",)]
            conn.execute("INSERT INTO thread (thread_id) VALUES (gen_random_uuid())")
            upgrade(url)
            upgrade(url)
            assert conn.execute(VERSIONS).fetchall() == [(HEAD,)]
            assert conn.execute("SELECT count(*) FROM thread").fetchall() == [(1,)]


async def test_a_migration_that_fails_leaves_the_version_that_was_there(
    engine_set: Engines, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    broken = tmp_path_factory.mktemp("migrations") / "functions.sql"
    broken.write_text("CREATE TABLE half (); SELECT 1 / 0;")
    async with own_database(engine_set) as url:
        upgrade(url, to="0015")
        with monkeypatch.context() as patched:
            patched.setattr(migrate, "FUNCTIONS", broken)
            with pytest.raises(psycopg.errors.DivisionByZero):
                upgrade(url)
        with psycopg.connect(url) as conn:
            assert conn.execute(VERSIONS).fetchall() == [("0015",)]
            assert conn.execute("SELECT to_regclass('half')").fetchall() == [(None,)]


async def test_a_postgres_that_is_too_old_is_refused_before_anything_is_written(
    engine_set: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "OLDEST", 99)
    async with own_database(engine_set) as url:
        with pytest.raises(Unprepared, match=r"^The database is Postgres \d+, and durathread needs 99 or later\.$"):
            upgrade(url)
        with psycopg.connect(url) as conn:
            assert conn.execute("SELECT to_regclass('checkpoints')").fetchall() == [(None,)]


async def test_a_migration_beside_a_server_at_work_gives_way_and_is_done(engine_set: Engines) -> None:
    """What writes to one table and then to another must not meet it in the middle: one of the two would be ended."""
    async with own_database(engine_set) as url:
        upgrade(url)
        with psycopg.connect(url) as writer, psycopg.connect(url, autocommit=True) as watcher:

            async def waits() -> bool:
                return bool(watcher.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall())

            writer.execute("UPDATE thread SET metadata = metadata")
            migrating = asyncio.create_task(asyncio.to_thread(upgrade, url))
            await eventually(waits)
            for table in ("run", "checkpoints", "checkpoint_writes", "checkpoint_blobs", "store", "cron"):
                writer.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
            writer.commit()
            await asyncio.wait_for(migrating, 60)
        with psycopg.connect(url) as conn:
            assert conn.execute(VERSIONS).fetchall() == [(HEAD,)]


async def test_tables_that_are_never_free_are_told_of(engine_set: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "GIVE_UP", 0.5)
    async with own_database(engine_set) as url:
        upgrade(url)
        with psycopg.connect(url) as writer:
            writer.execute("UPDATE thread SET metadata = metadata")
            with pytest.raises(Unprepared, match="A transaction has held"):
                await asyncio.to_thread(upgrade, url)
