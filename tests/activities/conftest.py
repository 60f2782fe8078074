"""What tests of activities share."""

from collections.abc import AsyncIterator

import pytest

from durathread.db.pool import Pool, open_pool


@pytest.fixture(scope="session")
async def pool(database: str) -> AsyncIterator[Pool]:
    """A pool on the session's database."""
    async with open_pool(database, size=4) as opened:
        yield opened
