"""Who may ask a server on somebody's own machine that asks nobody who they are: pages of the machine itself, and Studio."""

import json
from collections.abc import Mapping
from typing import Any, cast

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# The last leads here from a container on the same machine.
NAMES = "localhost,127.0.0.1,[::1],host.docker.internal"
PAGES = r"https?://(localhost|[a-z0-9-]+\.localhost|127\.0\.0\.1|\[::1\])(:\d+)?|https://([a-z0-9-]+\.)*smith\.langchain\.com"


def closed(variables: Mapping[str, str], config: Mapping[str, Any], *, host: str) -> dict[str, str]:
    """Add to the environment of the roles what keeps other sites' pages out, unless it says who may come in.

    Args:
        variables: the environment.
        config: langgraph.json.
        host: the address that the API listens on.
    """
    if config.get("auth"):
        return dict(variables)
    found = dict(variables)
    said: Any = config.get("http")
    http = cast(Mapping[str, Any], said) if isinstance(said, Mapping) else {}
    cors: Any = http.get("cors") or {}
    if not _names_origins(cors) and not found.get("CORS_CONFIG") and not found.get("CORS_ALLOW_ORIGINS"):
        found["CORS_CONFIG"] = json.dumps({**cors, "allow_origin_regex": PAGES})
    if host in LOOPBACK:
        found.setdefault("DURATHREAD_ALLOWED_HOSTS", NAMES)
    return found


def _names_origins(cors: Any) -> bool:
    """Whether langgraph.json says which pages may call, be it none; what cannot be read is refused where it is used."""
    if not isinstance(cors, Mapping):
        return True
    said = cast(Mapping[str, Any], cors)
    return said.get("allow_origins") is not None or bool(said.get("allow_origin_regex"))


def opens_to_all(config: Mapping[str, Any], *, host: str) -> bool:
    """Say whether others on the network may do everything."""
    return host not in LOOPBACK and not config.get("auth")
