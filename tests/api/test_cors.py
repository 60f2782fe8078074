"""What browsers may do from pages of other origins."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from durathread.api.app import create_app
from durathread.api.http.cors import EXPOSED
from durathread.config.http import Http, http_config
from durathread.config.langgraph_json import parse
from durathread.config.settings import Settings
from durathread.errors import ConfigError
from durathread.graphs.registry import Graphs

PAGE = "https://page.example"


async def headers_of(
    cors: Mapping[str, Any] | None, *, preflight: bool, origin: str = PAGE, settings: Settings | None = None
) -> httpx.Headers:
    """Ask as a browser does, and return the headers that decide."""
    config = {"http": {"cors": cors}} if cors is not None else {}
    transport = httpx.ASGITransport(create_app(settings or Settings(), Graphs({}, parse(config), Path())))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        asked = {"origin": origin}
        if preflight:
            asked |= {"access-control-request-method": "PATCH", "access-control-request-headers": "x-own"}
            return (await http.options("/threads", headers=asked)).headers
        return (await http.get("/openapi.json", headers=asked)).headers


async def test_any_page_may_call_by_default_also_into_a_private_network(client: LangGraphClient) -> None:
    asked = {
        "origin": PAGE,
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-api-key",
        "access-control-request-private-network": "true",
    }
    http = client.http.client
    answer = await http.options("/threads/search", headers=asked)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-private-network"] == "true"
    assert answer.headers["access-control-allow-headers"] == "x-api-key"
    assert "access-control-allow-credentials" not in answer.headers
    simple = await http.post("/threads/search", json={}, headers={"origin": PAGE})
    assert simple.headers["access-control-expose-headers"].split(", ") == EXPOSED


async def test_only_the_origins_that_are_named_may_call() -> None:
    cors = {"allow_origins": [PAGE], "allow_credentials": True, "expose_headers": ["x-own"], "max_age": 60}
    preflight = await headers_of(cors, preflight=True)
    assert preflight["access-control-allow-origin"] == PAGE
    assert preflight["access-control-allow-credentials"] == "true"
    assert preflight["access-control-max-age"] == "60"
    simple = await headers_of(cors, preflight=False)
    assert simple["access-control-allow-origin"] == PAGE
    assert simple["access-control-expose-headers"].split(", ") == [*EXPOSED, "x-own"]
    for asked in (True, False):
        other = await headers_of(cors, preflight=asked, origin="https://other.example")
        assert "access-control-allow-origin" not in other


async def test_origins_may_be_a_pattern() -> None:
    cors = {"allow_origin_regex": r"https://.*\.example", "allow_credentials": True}
    assert (await headers_of(cors, preflight=False))["access-control-allow-origin"] == PAGE
    assert "access-control-allow-origin" not in await headers_of(cors, preflight=False, origin="https://other.test")


@pytest.mark.parametrize(
    "cors",
    [
        {"allow_origins": ["*"], "allow_credentials": True},
        {"allow_credentials": True},
        {"allow_origin_regex": ".*", "allow_credentials": True},
        {"allow_origins": [PAGE, "*"], "allow_credentials": True},
    ],
)
@pytest.mark.parametrize("preflight", [True, False])
async def test_credentials_are_never_allowed_to_any_origin(cors: dict[str, Any], preflight: bool) -> None:
    found = await headers_of(cors, preflight=preflight)
    assert "access-control-allow-origin" in found
    assert "access-control-allow-credentials" not in found


async def test_methods_and_headers_may_be_named() -> None:
    cors = {"allow_origins": [PAGE], "allow_methods": ["GET", "PATCH"], "allow_headers": ["x-own"]}
    found = await headers_of(cors, preflight=True)
    assert found["access-control-allow-methods"] == "GET, PATCH"
    assert "x-own" in found["access-control-allow-headers"]


async def test_the_environment_wins_over_the_file() -> None:
    settings = Settings(cors_config=json.dumps({"allow_origins": ["https://set.example"]}))
    found = await headers_of(
        {"allow_origins": [PAGE]}, preflight=False, origin="https://set.example", settings=settings
    )
    assert found["access-control-allow-origin"] == "https://set.example"
    origins = Settings(cors_origins=f"https://other.example, {PAGE}")
    assert (await headers_of(None, preflight=False, settings=origins))["access-control-allow-origin"] == PAGE


@pytest.mark.parametrize("given", ["[", "[]", '{"allow_origin": []}', '{"allow_origin_regex": "("}'])
def test_a_cors_config_that_cannot_be_used_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match=r"CORS_CONFIG|allow_origin_regex"):
        http_config(Http(), Settings(cors_config=given))
