"""Failed assertions of the scenarios are explained as those of tests are."""

import pytest

pytest.register_assert_rewrite(
    *(f"tests.contract.of_{name}" for name in ("assistants", "crons", "threads", "runs", "store"))
)
