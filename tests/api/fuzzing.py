"""Hooks of the fuzzer: most requests name things that exist, so that they reach what is behind the checks of ids.

The fuzzer loads this file by itself; `FUZZ_KNOWN` holds the ids that exist, as JSON.
"""

import json
import os
from random import Random
from typing import Any

import schemathesis

KNOWN: dict[str, str] = json.loads(os.environ["FUZZ_KNOWN"])
CHOICE = Random(7)


def often(share: float = 0.75) -> bool:
    """Say yes three times of four, or as often as is said."""
    return CHOICE.random() < share


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Name what exists, and start runs that end soon."""
    if case.method != "DELETE":
        for name in set(case.path_parameters or {}) & set(KNOWN):
            if often():
                case.path_parameters[name] = KNOWN[name]
    for body in case.body if isinstance(case.body, list) else [case.body]:
        if isinstance(body, dict):
            sensible(body)


def sensible(body: dict[str, Any]) -> None:
    """Let a body ask for something that can be done now."""
    if "assistant_id" in body and often():
        body["assistant_id"] = KNOWN["assistant_id"]
    if "graph_id" in body and often():
        body["graph_id"] = "agent"
    if "schedule" in body and often():
        body["schedule"] = "0 0 1 1 *"
        body.pop("timezone", None)
    if isinstance(body.get("after_seconds"), int | float) and body["after_seconds"] > 1:
        body["after_seconds"] = 0.2
    if often(0.95):
        # Hardly any text is a URL.
        body.pop("webhook", None)
