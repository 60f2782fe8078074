"""What tests of the store share."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from durathread.db.pool import Pool, open_pool


@pytest.fixture(scope="session")
async def pool(database: str) -> AsyncIterator[Pool]:
    """A pool on the session's database."""
    async with open_pool(database, size=8) as opened:
        yield opened


@pytest.fixture
def thread(thread_id: str) -> UUID:
    return UUID(thread_id)
