"""An app of the user's own on a server that knows its users."""

from pathlib import Path

import httpx
import pytest

from durathread.embedded.engines import Engines
from tests.api.serving import serving

APP = """
    from fastapi import FastAPI, Request
    from langgraph_sdk import Auth
    from starlette.responses import PlainTextResponse

    auth = Auth()
    app = FastAPI()


    @auth.authenticate
    async def authenticate(authorization: str | None, path_params: dict):
        if not authorization:
            raise Auth.exceptions.HTTPException(401, "who are you?")
        return {"identity": authorization, "at": path_params}


    @app.middleware("http")
    async def stamped(request, call_next):
        response = await call_next(request)
        response.headers["x-stamp"] = "seen"
        return response


    @app.get("/hello")
    async def hello(request: Request):
        return {"user": request.user.identity if "user" in request.scope else None}


    @app.get("/rooms/{room}/doors/{door:int}")
    async def door(request: Request):
        return request.user["at"] if "user" in request.scope else None


    @app.get("/info")
    async def info():
        return {"shadowed": True}


    @app.get("/threads/{thread_id}")
    async def thread(thread_id: str):
        return {"thread": thread_id}
"""
BOB = {"authorization": "bob"}


@pytest.mark.parametrize(
    ("guarded", "order"), [(True, "middleware_first"), (False, "middleware_first"), (False, "auth_first")]
)
async def test_custom_routes_are_for_users_only_if_asked_and_ours_always(
    engine_set: Engines, database: str, tmp_path: Path, guarded: bool, order: str
) -> None:
    assert database
    http_block = {"app": "./custom_app.py:app", "enable_custom_route_auth": guarded, "middleware_order": order}
    auth = {"path": "./custom_app.py:auth"}
    async with (
        serving(engine_set, tmp_path, http=http_block, auth=auth, app=APP) as stack,
        httpx.AsyncClient(base_url=stack.url) as http,
    ):
        for path, answer in (
            ("/hello", {"user": None}),
            ("/info", {"shadowed": True}),
            ("/threads/x", {"thread": "x"}),
        ):
            seen = await http.get(path)
            expected = (401, {"detail": "who are you?"}) if guarded else (200, answer)
            assert (seen.status_code, seen.json()) == expected, path
        assert (await http.get("/hello", headers=BOB)).json() == {"user": "bob" if guarded else None}
        at = {"room": "hall", "door": 2} if guarded else None
        assert (await http.get("/rooms/hall/doors/2", headers=BOB)).json() == at
        # Another method of a path that a custom route has is ours.
        for method, path in (("POST", "/assistants/search"), ("DELETE", "/threads/x"), ("GET", "/threads/x/state")):
            seen = await http.request(method, path, json={})
            assert (seen.status_code, seen.json()) == (401, {"detail": "who are you?"}), path
            assert ("x-request-id" in seen.headers) == path.startswith("/threads")
            assert ("x-stamp" in seen.headers) == (order == "middleware_first")
        assert (await http.post("/assistants/search", json={}, headers=BOB)).status_code == 200
        assert (await http.get("/ok")).json() == {"ok": True, "services": {}}
