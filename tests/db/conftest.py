"""What tests of the database share."""

from uuid import UUID

import pytest


@pytest.fixture
def thread(thread_id: str) -> UUID:
    return UUID(thread_id)
