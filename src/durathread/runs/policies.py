"""What langgraph.json grants to those who create threads and runs."""

from dataclasses import dataclass

from durathread import encryption
from durathread.config.langgraph_json import LanggraphJson
from durathread.config.lifetimes import Expiry, expiry_of
from durathread.records import OnInterrupt
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


def terms_of(config: LanggraphJson, *, thread_ttl: str = "") -> Terms:
    """Take the terms; `thread_ttl` is JSON that takes the place of `checkpointer.ttl`.

    Raises:
        ConfigError: they cannot be used; says why.
    """
    signals = config.temporal.signals
    return Terms(
        webhooks=rules_of(config),
        expiry=expiry_of(config.checkpointer.ttl, text=thread_ttl),
        fairness=config.fairness.key if config.fairness else None,
        authenticates=config.auth is not None,
        signals=config.auth is None and not encryption.is_on() if signals is None else signals,
        most_runs=config.quotas.runs,
        most_crons=config.quotas.crons,
        most_bytes=config.quotas.bytes,
        on_interrupt=config.on_interrupt,
    )
