"""What langgraph.json grants to those who create threads and runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from durathread import encryption
from durathread.config.lifetimes import Expiry, expiry_of
from durathread.errors import ConfigError
from durathread.records import ON_INTERRUPT, OnInterrupt
from durathread.webhooks.policy import Rules, rules_of


@dataclass(frozen=True)
class Terms:
    """Where webhooks may go, how long threads live, and who waits for whom."""

    webhooks: Rules
    expiry: Expiry
    # The key of `configurable` that says whose a run is; None for the user, or else the thread.
    fairness: str | None = None
    # Whether users are authenticated, and whether runs may come by a signal in Temporal, where nobody asks who sends them.
    authenticates: bool = False
    signals: bool = True
    # How many runs in flight, crons and stored bytes one user may have; everybody together if nobody says whose they are.
    most_runs: int | None = None
    most_crons: int | None = None
    most_bytes: int | None = None
    # What a run does about a conversation that was cut off, if neither it nor its assistant says so.
    on_interrupt: OnInterrupt = "keep"


def terms_of(config: Mapping[str, Any], *, thread_ttl: str = "") -> Terms:
    """Read the terms; `thread_ttl` is JSON that takes the place of `checkpointer.ttl`.

    Raises:
        ConfigError: they cannot be used; says why.
    """
    quotas = _quotas(config.get("quotas"))
    return Terms(
        webhooks=rules_of(config),
        expiry=expiry_of(config, text=thread_ttl),
        fairness=_fairness(config.get("fairness")),
        authenticates=config.get("auth") is not None,
        signals=_signals(config.get("temporal"), default=config.get("auth") is None and not encryption.is_on()),
        most_runs=quotas.get("runs"),
        most_crons=quotas.get("crons"),
        most_bytes=quotas.get("bytes"),
        on_interrupt=_on_interrupt(config.get("on_interrupt", "keep")),
    )


def _signals(given: Any, *, default: bool) -> bool:
    if given is None:
        return default
    block: Mapping[str, Any] = cast(Mapping[str, Any], given) if isinstance(given, Mapping) else {"": given}
    said = block.get("signals", default)
    if set(block) - {"signals"} or not isinstance(said, bool):
        raise ConfigError(
            'langgraph.json: temporal needs {"signals": true or false}: whether runs may come by a signal.'
        )
    return said


def _quotas(given: Any) -> Mapping[str, int]:
    if given is None:
        return {}
    block: Mapping[str, Any] = cast(Mapping[str, Any], given) if isinstance(given, Mapping) else {"": given}
    if set(block) - {"runs", "crons", "bytes"} or not all(type(most) is int and most >= 0 for most in block.values()):
        raise ConfigError(
            'langgraph.json: quotas takes {"runs": 10, "crons": 5, "bytes": 100000000}: how many runs in flight, crons and '
            "stored bytes a user may have."
        )
    return block


def _on_interrupt(given: Any) -> OnInterrupt:
    if given not in ON_INTERRUPT:
        raise ConfigError('langgraph.json: on_interrupt must be "keep" or "repair".')
    return given


def _fairness(given: Any) -> str | None:
    if given is None:
        return None
    key = cast(Mapping[str, Any], given).get("key") if isinstance(given, Mapping) else None
    if not isinstance(key, str) or not key:
        raise ConfigError('langgraph.json: fairness needs {"key": "the key of configurable that says whose a run is"}.')
    return key
