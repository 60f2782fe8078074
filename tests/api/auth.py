"""Servers that authenticate, and clients of their users."""

import json
from typing import Any

from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.stack import GRAPHS, Stack

OWNERS = GRAPHS.parent / "auth" / "owners.json"
SCRIPTED = GRAPHS.parent / "auth" / "scripted.json"


def headers_of(name: str) -> dict[str, str]:
    """Return what a user of the server of owners sends."""
    return {"authorization": f"Bearer {name}"}


def script(**said: Any) -> dict[str, str]:
    """Return what makes the scripted server's handlers do something: see tests/served/auth/scripted.py."""
    return {"authorization": f"Bearer {json.dumps(said)}"}


def client_of(server: Stack, headers: dict[str, str]) -> LangGraphClient:
    """Build the SDK's client of somebody."""
    return get_client(url=server.url, headers=headers, api_key=None)
