"""How long threads live that nobody touches, as langgraph.json says it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import orjson

from durathread.errors import ConfigError
from durathread.records import JsonObject, Lifetime

STRATEGIES = ("delete", "keep_latest")
# A hundred years: what a timestamp can bear.
LONGEST = 100 * 365 * 24 * 60
SWEEP_INTERVAL = 5.0
SWEEP_LIMIT = 1000


@dataclass(frozen=True)
class Expiry:
    """The lifetime that new threads get, and how often so many threads at most are looked after."""

    default: Lifetime | None = None
    interval_minutes: float = SWEEP_INTERVAL
    limit: int = SWEEP_LIMIT


def expiry_of(config: Mapping[str, Any], *, text: str = "") -> Expiry:
    """Read `checkpointer.ttl` of langgraph.json; `text`, JSON of the same form, wins over it.

    Raises:
        ConfigError: it cannot be used; says why.
    """
    where, given = "LANGGRAPH_THREAD_TTL", _parsed(text)
    if not text:
        checkpointer = config.get("checkpointer") or {}
        where, given = "langgraph.json: checkpointer.ttl", cast(JsonObject, checkpointer).get("ttl")
    if given is None:
        return Expiry()
    if not isinstance(given, dict):
        raise ConfigError(f'{where} must be an object, such as {{"strategy": "delete", "default_ttl": 43200}}.')
    block = cast(JsonObject, given)
    strategy = block.get("strategy") or "delete"
    if strategy not in STRATEGIES:
        raise ConfigError(f"{where}.strategy must be one of {', '.join(STRATEGIES)}.")
    minutes = _minutes(block, "default_ttl", where)
    limit = block.get("sweep_limit") or SWEEP_LIMIT
    if not isinstance(limit, int) or limit < 1:
        raise ConfigError(f"{where}.sweep_limit must be a number above 0.")
    return Expiry(
        default=Lifetime(minutes, strategy) if minutes else None,
        interval_minutes=_minutes(block, "sweep_interval_minutes", where) or SWEEP_INTERVAL,
        limit=limit,
    )


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text) if text else None
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"LANGGRAPH_THREAD_TTL is not JSON: {error}") from None


def _minutes(block: JsonObject, name: str, where: str) -> float | None:
    value = block.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= LONGEST or math.isnan(value):
        raise ConfigError(f"{where}.{name} must be a number of minutes above 0.")
    return float(value)
