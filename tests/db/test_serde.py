"""Which classes come back from a checkpoint."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from structlog.testing import capture_logs

from durathread.config.langgraph_json import parse
from durathread.db import serde
from durathread.db.pool import Pool
from durathread.db.saver import Saver
from durathread.errors import ConfigError


@dataclass
class Known:
    """A user's class."""

    text: str


@dataclass
class Stranger:
    """Another."""

    text: str


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    yield
    serde.use({})


def config_of(**given: Any) -> dict[str, Any]:
    """Write a langgraph.json."""
    return {"checkpointer": {"serde": given}}


def use(config: dict[str, Any]) -> None:
    """Serialize as a langgraph.json says."""
    serde.use(parse(config).checkpointer.serde_options)


@pytest.mark.parametrize("key", ["", "0123456789abcdef"])
async def test_a_class_that_is_not_allowed_is_not_revived_and_that_is_logged(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("LANGGRAPH_AES_KEY", key)
    use(config_of(allowed_msgpack_modules=[[Known.__module__, "Known"]]))
    saver = Saver(pool)
    with capture_logs() as logs:
        known = saver.serde.loads_typed(saver.serde.dumps_typed(Known("a")))
        stranger = saver.serde.loads_typed(saver.serde.dumps_typed(Stranger("a")))
    assert known == Known("a")
    assert not isinstance(stranger, Stranger)
    [said] = logs
    assert (said["module"], said["name"]) == (Stranger.__module__, "Stranger")


@pytest.mark.filterwarnings("ignore")
async def test_without_a_list_all_are_revived_as_langgraph_does(pool: Pool) -> None:
    for config in ({}, {"checkpointer": {}}, config_of(allowed_msgpack_modules=True)):
        use(config)
        found = Saver(pool).serde
        assert found.loads_typed(found.dumps_typed(Stranger("a"))) == Stranger("a")


@pytest.mark.parametrize(
    "given",
    [
        {"allowed_msgpack_modules": "all"},
        {"allowed_msgpack_modules": [["module"]]},
        {"allowed_msgpack_modules": [["module", 1]]},
        {"allowed_json_modules": False},
        {"pickle_fallback": "yes"},
        {"allow": []},
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="serde"):
        use(config_of(**given))
