"""Migrations: each file of SQL is applied."""

from durathread.db.pool import Pool, connection
from durathread.db.schema import HEAD, MIGRATIONS

INDEX = "SELECT 1 FROM pg_indexes WHERE indexname = 'thread_hidden_idx'"


def test_each_file_of_sql_has_a_version_that_applies_it() -> None:
    files = sorted(path.name for path in MIGRATIONS.glob("*.sql"))
    versions = sorted((MIGRATIONS / "versions").glob("v*.py"))
    assert [f"v{name.removesuffix('.sql')}.py" for name in files] == [path.name for path in versions]
    assert all(name in path.read_text() for name, path in zip(files, versions, strict=True))
    assert files[-1].startswith(HEAD)


async def test_a_database_that_was_migrated_has_what_the_last_of_them_brings(pool: Pool) -> None:
    async with connection(pool) as conn:
        assert await (await conn.execute(INDEX)).fetchone()
