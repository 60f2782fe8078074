"""What langgraph.json grants to those who create threads and runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from durathread.webhooks import Rules, rules_of


@dataclass(frozen=True)
class Terms:
    """Where webhooks may go."""

    webhooks: Rules


def terms_of(config: Mapping[str, Any]) -> Terms:
    """Read the terms.

    Raises:
        ConfigError: they cannot be used; says why.
    """
    return Terms(webhooks=rules_of(config))
