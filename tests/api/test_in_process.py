"""Requests from within the process pass unasked; nothing that comes from outside passes for one."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import Auth, get_client
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from durathread.api.app import create_app
from durathread.api.auth.authentication import Authentication
from durathread.api.auth.handlers import Authority
from durathread.api.http.in_process import KEY, in_process
from durathread.api.lifespan import open_server
from durathread.config.langgraph_json import LanggraphJson
from durathread.config.settings import Settings
from durathread.embedded.engines import Engines
from durathread.graphs.registry import Graphs
from durathread.inprocess import clients
from durathread.process.lifecycle import Owner
from tests.api.auth import OWNERS


def an_auth() -> Auth:
    """Build an `Auth` that knows one user."""
    auth = Auth()

    @auth.authenticate
    async def authenticate(authorization: str | None, path_params: dict[str, str]) -> Any:
        if authorization != "alice":
            raise Auth.exceptions.HTTPException(401, "Who are you?")
        return {"identity": "alice", "permissions": ["read"], "at": path_params}

    assert authenticate
    return auth


async def who(request: Request) -> JSONResponse:
    """Say who asks."""
    user: Any = request.user
    told = dict(user) if user.is_authenticated else {}
    return JSONResponse({"user": told, "scopes": request.auth.scopes, "root": request.scope["root_path"]})


def an_app() -> Starlette:
    """Build an app of a custom route."""
    app = Starlette(
        routes=[Route("/who/{name}", who), Route("/noauth/who/{name}", who), Mount("/sub", routes=[Route("/ok", who)])]
    )
    app.add_middleware(Authentication, authority=Authority(an_auth()), recheck=60)
    return app


def client_of(app: ASGIApp, **options: Any) -> httpx.AsyncClient:
    """Build a client of an app in this process."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, **options), base_url="http://api")


async def test_a_custom_route_knows_its_user() -> None:
    async with client_of(an_app()) as http:
        answer = await http.get("/who/me", headers={"authorization": "alice"})
        assert (await http.get("/who/me")).status_code == 401
    user = {"identity": "alice", "display_name": "alice", "is_authenticated": True, "permissions": ["read"]}
    assert answer.json() == {"user": {**user, "at": {"name": "me"}}, "scopes": ["read"], "root": ""}


async def test_a_request_from_within_the_process_needs_nobody() -> None:
    async with client_of(in_process(an_app()), root_path="/noauth") as http:
        answer = await http.get("/who/me")
    assert answer.json() == {"user": {}, "scopes": [], "root": ""}


async def test_a_request_that_only_looks_like_one_is_asked() -> None:
    app = an_app()
    tried: list[httpx.AsyncClient] = [
        client_of(app),
        client_of(app, root_path="/noauth"),
        client_of(app, client=("api", 1)),
    ]
    for http in tried:
        async with http:
            for path in ("/who/me", "/noauth/who/me"):
                assert (await http.get(path)).status_code == 401
                assert (await http.get(path, headers={KEY: "1", "host": "api"})).status_code == 401


@pytest.mark.parametrize("mark", [True, "1", object(), {"in_process": True}])
async def test_the_mark_cannot_be_made_up(mark: Any) -> None:
    inner = an_app()

    async def marked(scope: Scope, receive: Receive, send: Send) -> None:
        await inner({**scope, KEY: mark}, receive, send)

    async with client_of(marked) as http:
        assert (await http.get("/who/me")).status_code == 401


async def test_a_public_path_is_so_only_at_the_root() -> None:
    async with client_of(an_app()) as http:
        assert (await http.get("/sub/ok")).status_code == 401
        assert (await http.get("/ok")).status_code == 404
    async with client_of(Starlette(routes=[Mount("/prefix", app=an_app())])) as http:
        assert (await http.get("/prefix/ok")).status_code == 404
        assert (await http.get("/prefix/who/me")).status_code == 401
        assert (await http.get("/prefix/prefix/ok")).status_code == 401


async def test_the_sdks_client_without_a_url_passes_and_no_other(
    engine_set: Engines, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", engine_set.temporal_address)
    settings = Settings(database_url=database, redis_url=engine_set.redis_url, config=OWNERS, task_queue="tests")
    graphs = Graphs.load(OWNERS)
    app = create_app(settings, graphs)
    async with (
        get_client() as within,
        open_server(settings, graphs, owner=Owner(), authority=Authority.load(graphs)) as server,
    ):
        app.state.server = server
        inside = in_process(app)
        clients.serve(inside)
        thread = await within.threads.create(metadata={"made": "within"})
        assert thread["metadata"] == {"made": "within"}
        async with client_of(app, root_path="/noauth") as http:
            assert (await http.get(f"/threads/{thread['thread_id']}")).status_code == 401
            mine = await http.get(f"/threads/{thread['thread_id']}", headers={"authorization": "Bearer alice"})
            assert mine.status_code == 404
        await within.threads.delete(thread["thread_id"])
        clients.withdraw(inside)


async def test_a_route_that_nobody_was_asked_for_is_refused(
    engine_set: Engines, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the middleware, by mistake, the routes are closed."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", engine_set.temporal_address)
    settings = Settings(database_url=database, redis_url=engine_set.redis_url, config=OWNERS, task_queue="tests")
    graphs = Graphs({}, LanggraphJson(), Path())
    app = create_app(settings, graphs)
    async with open_server(settings, graphs, owner=Owner(), authority=Authority(an_auth())) as server:
        app.state.server = server
        async with client_of(app) as http:
            answer = await http.post("/threads", json={})
    assert (answer.status_code, answer.json()) == (401, {"detail": "Unauthorized"})
