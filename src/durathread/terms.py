"""What langgraph.json grants to those who create threads and runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from durathread.lifetimes import Expiry, expiry_of
from durathread.webhooks import Rules, rules_of


@dataclass(frozen=True)
class Terms:
    """Where webhooks may go, and how long threads live."""

    webhooks: Rules
    expiry: Expiry


def terms_of(config: Mapping[str, Any], *, thread_ttl: str = "") -> Terms:
    """Read the terms; `thread_ttl` is JSON that takes the place of `checkpointer.ttl`.

    Raises:
        ConfigError: they cannot be used; says why.
    """
    return Terms(webhooks=rules_of(config), expiry=expiry_of(config, text=thread_ttl))
