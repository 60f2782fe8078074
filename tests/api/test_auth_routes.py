"""Every route but the public ones asks who it is, and what they may do; and nothing else that a client sends lets it in."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from durathread.api.app import create_app
from durathread.api.auth.authentication import PUBLIC
from durathread.config.langgraph_json import LanggraphJson
from durathread.config.settings import Settings
from durathread.graphs.registry import Graphs
from tests.api.auth import headers_of, script
from tests.stack import Stack

UUID = "00000000-0000-7000-8000-000000000000"
PARAMETERS = {"namespace:path": "sub", "assistant_id": "fe096781-5601-53d2-b2f6-0d3403f7e9ca"}
"""What stands in a path for a parameter; a UUID by default."""
ANY_BODY: dict[str, Any] = {
    "assistant_id": "agent",
    "graph_id": "agent",
    "thread_ids": [UUID],
    "namespace": ["a"],
    "key": "k",
    "value": {},
    "values": {},
    "metadata": {},
    "schedule": "* * * * *",
    "version": 1,
}
"""A body that every route takes; fields that a route does not know are ignored. Other bodies are below."""
SOCKET = "WebSocket"
COMMANDS = "/threads/{thread_id}/commands"
BODIES: dict[str, Any] = {
    "/assistants": {"graph_id": "agent"},
    "/threads": {},
    "/runs/crons/search": {},
    "/runs/crons/count": {},
    "/runs/batch": [{"assistant_id": "agent"}],
    "/runs/cancel": {"status": "all"},
    COMMANDS: {"id": 1, "method": "run.start", "params": {"assistant_id": "agent", "input": {}}},
    "/threads/{thread_id}/stream/events": {"channels": ["values"]},
}
QUERIES = {("GET", "/store/items"): "?namespace=a&key=k"}
UNGUARDED = {("GET", "/redoc"), ("HEAD", "/redoc")}
"""Guarded, but without anything to ask a handler about."""


def routes() -> Iterator[tuple[str, str]]:
    """List every route of the API: its method, and its path as it is declared."""
    app = create_app(Settings(), Graphs({}, LanggraphJson(), Path()))  # pyright: ignore[reportCallIssue]
    for route in iter_route_contexts(app.routes):
        assert route.path is not None
        for method in sorted(route.methods or {SOCKET}):
            yield method, route.path


ROUTES = sorted(routes())
GUARDED = [route for route in ROUTES if route[0] != SOCKET and route[1] not in PUBLIC]
SOCKETS = [path for method, path in ROUTES if method == SOCKET]


def filled_in(path: str) -> str:
    """Put something in the place of each parameter of a path."""
    while "{" in path:
        name = path[path.index("{") + 1 : path.index("}")]
        path = path.replace(f"{{{name}}}", PARAMETERS.get(name, UUID))
    return path


async def ask(server: Stack, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    """Send a request that its route would carry out."""
    body = None if method in ("GET", "HEAD") else BODIES.get(path, ANY_BODY)
    async with httpx.AsyncClient(base_url=server.url, headers=headers) as http:
        return await http.request(method, filled_in(path) + QUERIES.get((method, path), ""), json=body)


def test_there_are_routes() -> None:
    assert len(GUARDED) > 50
    assert SOCKETS
    assert {path for _, path in ROUTES} >= PUBLIC


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_a_route_asks_who_it_is(scripted: Stack, method: str, path: str) -> None:
    answer = await ask(scripted, method, path, {})
    assert answer.status_code == 401
    assert method == "HEAD" or answer.json() == {"detail": "No token"}


@pytest.mark.parametrize(("method", "path"), [route for route in GUARDED if route not in UNGUARDED])
async def test_a_route_asks_what_they_may_do(scripted: Stack, method: str, path: str) -> None:
    answer = await ask(scripted, method, path, script(on={"*": {"return": False}}))
    if path == COMMANDS:
        # Its errors are answers.
        assert (answer.status_code, answer.json()["error"]) == (200, "permission_denied")
        return
    assert answer.status_code == 403, answer.text
    assert method == "HEAD" or answer.json() == {"detail": "Forbidden"}


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[1] in PUBLIC])
async def test_everybody_may_ask_for_what_is_public(scripted: Stack, method: str, path: str) -> None:
    assert (await ask(scripted, method, path, {})).status_code == 200
    assert (await ask(scripted, "HEAD", path, {})).status_code == 200


TRICKS: list[dict[str, str]] = [
    {"x-auth-scheme": "langsmith"},
    {"x-auth-scheme": "langsmith-api-key"},
    {"x-auth-scheme": "langsmith", "x-api-key": "lsv2_pt_1"},
    {"x-auth-scheme": "noop"},
    {"x-api-key": "anything"},
    {"x-user-id": "alice", "x-tenant-id": "alice", "x-organization-id": "alice"},
    {"x-service-key": "anything"},
    {"authorization": ""},
    {"authorization": "Bearer"},
    {"authorization": "Bearer nobody"},
    {"authorization": "Basic YWxpY2U6"},
    {"x-forwarded-prefix": "/noauth"},
    {"x-forwarded-for": "127.0.0.1", "forwarded": "for=127.0.0.1"},
    {"host": "api"},
    {"host": "localhost"},
    {"x-http-method-override": "OPTIONS"},
    {"durathread.in_process": "1", "durathread.caller": "1"},
    {"cookie": "session=alice"},
]


@pytest.mark.parametrize("trick", TRICKS, ids=str)
async def test_no_header_lets_anybody_in(owners: Stack, scripted: Stack, trick: dict[str, str]) -> None:
    # One of them has `disable_studio_auth`, the other has not.
    async with httpx.AsyncClient() as http:
        asked = await http.post(f"{owners.url}/threads/search", json={}, headers=trick)
        made = await http.post(f"{owners.url}/threads", json={}, headers=trick)
    assert [asked.status_code, made.status_code] == [401, 401]
    assert asked.headers["www-authenticate"] == "Bearer"
    without = {name: value for name, value in trick.items() if name != "authorization"}
    assert (await ask(scripted, "POST", "/threads/search", without)).status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/noauth/threads/search",
        "/noauth",
        "//threads/search",
        "/threads/search/",
        "/ok/../threads/search",
        "/ok/%2e%2e/threads/search",
        "/threads/search?noauth=true",
        "/docs/threads/search",
        "/%74hreads/search",
        "/THREADS/search",
        "/./threads/search",
        "http://api/threads/search",
    ],
)
async def test_no_path_lets_anybody_in(owners: Stack, path: str) -> None:
    async with httpx.AsyncClient(base_url=owners.url) as http:
        request = http.build_request("POST", "/", json={})
        # As it stands: clients tidy paths up.
        request = httpx.Request(
            "POST", request.url, headers=request.headers, content=b"{}", extensions={"target": path.encode()}
        )
        assert (await http.send(request)).status_code == 401


@pytest.mark.parametrize("path", SOCKETS)
async def test_a_websocket_asks_who_it_is_and_what_they_may_do(scripted: Stack, path: str) -> None:
    url = f"{scripted.url.replace('http', 'ws')}{filled_in(path)}"
    for headers in ({}, {"x-auth-scheme": "langsmith"}):
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, additional_headers=headers).__aenter__()
        assert refused.value.response.status_code == 401
        assert json.loads(refused.value.response.body or b"") == {"detail": "No token"}
    async with connect(url, additional_headers=script(on={"*": {"return": False}})) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4403, "Forbidden")


async def test_the_methods_of_preflights_need_nobody(owners: Stack) -> None:
    asked = {"origin": "https://x.test", "access-control-request-method": "POST"}
    async with httpx.AsyncClient(base_url=owners.url) as http:
        preflight = await http.options("/threads/search", headers=asked)
        refused = await http.post("/threads/search", json={}, headers={"origin": "https://x.test"})
    assert preflight.status_code == 200
    # A browser shows the refusal to its page.
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "*")


async def test_who_is_nobody_hears_nothing_of_what_there_is(owners: Stack) -> None:
    async with httpx.AsyncClient(base_url=owners.url) as http:
        broken = await http.post("/threads", content=b"{")
        unknown = await http.get("/nowhere")
        wrong = await http.put("/threads")
        endless = await http.head(f"/threads/{UUID}/stream")
    assert [broken.status_code, unknown.status_code, wrong.status_code, endless.status_code] == [401] * 4


async def test_the_schema_says_how_to_authenticate(owners: Stack) -> None:
    async with httpx.AsyncClient(base_url=owners.url) as http:
        schema = (await http.get("/openapi.json")).json()
        again = (await http.get("/openapi.json")).json()
    assert schema["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    assert schema["security"] == [{"token": []}]
    assert schema["components"]["schemas"]
    assert schema == again


async def test_routes_that_do_not_exist_are_not_found_by_those_who_are_somebody(owners: Stack) -> None:
    async with httpx.AsyncClient(base_url=owners.url, headers=headers_of("alice")) as http:
        assert (await http.get("/nowhere")).status_code == 404
        assert (await http.put("/threads")).status_code == 405
        assert (await http.post("/threads", content=b"{")).status_code == 422
