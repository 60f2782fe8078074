"""How long threads live that nobody touches, as langgraph.json says it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import orjson
from pydantic import Field

from durathread.config.blocks import LenientBlock, validated
from durathread.errors import ConfigError
from durathread.records import Lifetime

# A hundred years: what a timestamp can bear.
LONGEST = 100 * 365 * 24 * 60
SWEEP_INTERVAL = 5.0
SWEEP_LIMIT = 1000
ENVIRONMENT = "LANGGRAPH_THREAD_TTL"

Minutes = Annotated[float, Field(gt=0, le=LONGEST, allow_inf_nan=False)]


class ThreadTtl(LenientBlock):
    """The `checkpointer.ttl` of langgraph.json."""

    strategy: Literal["delete", "keep_latest"] = Field(default="delete", description="What happens to a thread.")
    default_ttl: Minutes | None = Field(default=None, description="Minutes that new threads live; none by default.")
    sweep_interval_minutes: Minutes | None = Field(default=None, description="How often threads are looked at; 5.")
    sweep_limit: Annotated[int, Field(ge=1)] | None = Field(default=None, description="How many threads at once; 1000.")

    needs: ClassVar[Mapping[str, str]] = {
        "strategy": "must be one of delete, keep_latest.",
        "default_ttl": "must be a number of minutes above 0.",
        "sweep_interval_minutes": "must be a number of minutes above 0.",
        "sweep_limit": "must be a number above 0.",
    }


@dataclass(frozen=True)
class Expiry:
    """The lifetime that new threads get, and how often so many threads at most are looked after."""

    default: Lifetime | None = None
    interval_minutes: float = SWEEP_INTERVAL
    limit: int = SWEEP_LIMIT


def expiry_of(ttl: ThreadTtl | None, *, text: str = "") -> Expiry:
    """Take `checkpointer.ttl` of langgraph.json; `text`, JSON of the same form, wins over it.

    Raises:
        ConfigError: it cannot be used; says why.
    """
    if text:
        ttl = validated(ThreadTtl, _parsed(text), where=ENVIRONMENT)
    if ttl is None:
        return Expiry()
    return Expiry(
        default=Lifetime(ttl.default_ttl, ttl.strategy) if ttl.default_ttl else None,
        interval_minutes=ttl.sweep_interval_minutes or SWEEP_INTERVAL,
        limit=ttl.sweep_limit or SWEEP_LIMIT,
    )


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text) or {}
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{ENVIRONMENT} is not JSON: {error}") from None
