"""`http.app`: an app of the user's own, with ours."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client
from websockets.asyncio.client import connect

from durathread.api.app import create_app
from durathread.api.openapi.description import merged
from durathread.config.langgraph_json import parse
from durathread.config.settings import Settings
from durathread.embedded.engines import Engines
from durathread.errors import ConfigError
from durathread.graphs.registry import Graphs
from tests.api.serving import serving
from tests.stack import Stack

APP = """
    import contextlib
    import pathlib

    from fastapi import Depends, FastAPI, Request, WebSocket
    from pydantic import BaseModel
    from starlette.exceptions import HTTPException
    from starlette.responses import JSONResponse, PlainTextResponse
    from langgraph_sdk import get_client

    client = get_client()


    @contextlib.asynccontextmanager
    async def lifespan(app):
        app.state.opened = "by the lifespan"
        pathlib.Path("opened").write_text("")
        yield {"lent": "to requests"}
        pathlib.Path("closed").write_text("")


    app = FastAPI(lifespan=lifespan)


    class Teapot(Exception):
        pass


    class Problem(BaseModel):
        other: int


    @app.exception_handler(Teapot)
    async def brew(request, error):
        return JSONResponse({"brewed": request.app.state.opened}, status_code=418)


    @app.exception_handler(HTTPException)
    async def refused(request, error):
        return JSONResponse({"refused": error.detail}, status_code=error.status_code)


    @app.exception_handler(404)
    def missing(request, error):
        return JSONResponse({"missing": request.url.path, "by": request.app.state.opened}, status_code=404)


    @app.middleware("http")
    async def stamped(request, call_next):
        if request.url.path == "/teapot-in-middleware":
            return PlainTextResponse("short and stout")
        response = await call_next(request)
        response.headers["x-stamp"] = request.app.state.opened
        return response


    async def asked(request: Request, q: str = "nothing"):
        return f"{q}, {request.state.lent}"


    @app.get("/hello")
    async def hello(request: Request, question: str = Depends(asked)):
        return {"state": request.app.state.opened, "question": question, "url": str(request.url_for("hello"))}


    @app.post("/form")
    async def form(request: Request):
        return [request.headers["content-type"], (await request.body()).decode()]


    @app.post("/typed")
    async def typed(body: Problem) -> Problem:
        return body


    @app.get("/info")
    async def info():
        return {"shadowed": True}


    @app.get("/ok")
    async def ok():
        return {"never": "seen"}


    @app.get("/threads/search")
    async def searched():
        return {"only": "GET"}


    @app.post("/assistants/count")
    async def counted():
        return {"count": "custom"}


    @app.get("/brew")
    async def brewing():
        raise Teapot


    @app.get("/refuse")
    async def refusing():
        raise HTTPException(402, "pay first")


    @app.get("/bug")
    async def bug():
        raise ZeroDivisionError("a secret")


    @app.get("/inside")
    async def inside():
        return [await client.assistants.count(), len(await get_client().assistants.search(graph_id="graph"))]


    @app.websocket("/echo")
    async def echo(socket: WebSocket):
        await socket.accept()
        await socket.send_text(f"{await socket.receive_text()} {socket.app.state.opened}")
        await socket.close()


    sub = FastAPI()


    @sub.get("/there")
    async def there(request: Request):
        return {"root_path": request.scope["root_path"]}


    app.mount("/sub", sub)
"""


@pytest.fixture(scope="module")
async def stack(engine_set: Engines, database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A server with a custom FastAPI app."""
    assert database
    folder = tmp_path_factory.mktemp("custom")
    async with serving(engine_set, folder, http={"app": "./custom_app.py:app"}, app=APP, workers=1) as found:
        yield found


@pytest.fixture
async def http(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the server."""
    async with httpx.AsyncClient(base_url=stack.url) as client:
        yield client


async def test_custom_routes_have_what_a_fastapi_user_expects(stack: Stack, http: httpx.AsyncClient) -> None:
    answer = (await http.get("/hello", params={"q": "why"})).json()
    assert answer == {"state": "by the lifespan", "question": "why, to requests", "url": f"{stack.url}/hello"}
    form = await http.post("/form", data={"name": "value"})
    assert form.json() == ["application/x-www-form-urlencoded", "name=value"]
    assert (await http.get("/sub/there")).json() == {"root_path": "/sub"}
    # FastAPI's own answer to a bad body.
    assert (await http.post("/typed", json={})).json()["detail"][0]["loc"] == ["body", "other"]
    assert (await http.delete("/hello")).status_code == 405


async def test_custom_routes_may_shadow_ours_method_by_method(http: httpx.AsyncClient) -> None:
    assert (await http.get("/info")).json() == {"shadowed": True}
    assert (await http.post("/assistants/count", json={})).json() == {"count": "custom"}
    assert (await http.get("/threads/search")).json() == {"only": "GET"}
    assert isinstance((await http.post("/threads/search", json={})).json(), list)


async def test_health_metrics_and_the_description_stay_ours(http: httpx.AsyncClient) -> None:
    assert (await http.get("/ok")).json() == {"ok": True, "services": {}}
    assert "lg_api_num_pending_runs" in (await http.get("/metrics")).text
    assert "/openapi.json" in (await http.get("/docs")).text


async def test_requests_are_counted_by_route_whoever_answers(http: httpx.AsyncClient) -> None:
    await http.get("/hello")
    await http.post("/threads/search", json={})
    counted = (await http.get("/metrics")).text
    for path in ("/hello", "/threads/search"):
        assert f'path="{path}"' in counted


async def test_custom_middleware_wraps_custom_routes_and_ours(http: httpx.AsyncClient) -> None:
    for path in ("/hello", "/ok", "/assistants/nobody", "/nowhere"):
        assert (await http.get(path)).headers["x-stamp"] == "by the lifespan"
    assert (await http.get("/teapot-in-middleware")).text == "short and stout"


async def test_custom_middleware_lets_streams_of_ours_through(stack: Stack) -> None:
    async with get_client(url=stack.url) as client:
        parts = [part async for part in client.runs.stream(None, "graph", input={"log": ["in"]}, stream_mode="updates")]
    assert [part.event for part in parts] == ["metadata", "updates", "end"]


async def test_custom_handlers_win_also_for_what_our_routes_raise(http: httpx.AsyncClient) -> None:
    for path in ("/brew", "/refuse"):
        assert (await http.get(path)).headers["x-stamp"] == "by the lifespan"
    brewed = await http.get("/brew")
    assert (brewed.status_code, brewed.json()) == (418, {"brewed": "by the lifespan"})
    refused = await http.get("/refuse")
    assert (refused.status_code, refused.json()) == (402, {"refused": "pay first"})
    # Our router raises this one, and no route of the custom app would.
    missing = await http.get("/threads")
    assert (missing.status_code, missing.json()) == (405, {"refused": "Method Not Allowed"})
    unknown = await http.get("/no/such/route")
    assert unknown.json() == {"missing": "/no/such/route", "by": "by the lifespan"}
    # Our own errors are ours.
    assert (await http.get("/assistants/x")).json() == {"detail": "Invalid assistant ID: must be a UUID"}


async def test_a_bug_in_a_custom_route_is_logged_and_not_shown(stack: Stack, http: httpx.AsyncClient) -> None:
    answer = await http.get("/bug")
    assert (answer.status_code, answer.json()) == (500, {"detail": "Internal Server Error"})
    assert "ZeroDivisionError: a secret" in stack.log("api")


async def test_custom_web_sockets_are_served(stack: Stack) -> None:
    async with connect(f"{stack.url.replace('http', 'ws')}/echo") as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello by the lifespan"


async def test_custom_routes_use_clients_without_a_url(http: httpx.AsyncClient) -> None:
    total, named = (await http.get("/inside")).json()
    # The route that counts is shadowed for clients from outside only.
    assert total >= 1
    assert named == 1


async def test_the_description_has_custom_routes_and_schemas(http: httpx.AsyncClient) -> None:
    described = (await http.get("/openapi.json")).json()
    paths, schemas = described["paths"], described["components"]["schemas"]
    assert set(paths["/threads/search"]) == {"get", "post"}
    assert {"/hello", "/runs/stream", "/typed"} < set(paths)
    assert paths["/assistants/count"]["post"]["operationId"].startswith("counted")
    # Both apps have a schema of this name.
    assert "detail" in schemas["Problem"]["properties"]
    assert "other" in schemas["CustomProblem"]["properties"]
    body = paths["/typed"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/CustomProblem"}


def test_a_schema_that_both_apps_mean_alike_keeps_its_name() -> None:
    described: Any = {"openapi": "3.1.0", "paths": {}, "components": {"schemas": {"Same": {"type": "object"}}}}
    assert merged(described, described) == described


async def test_the_lifespan_is_around_the_servers(engine_set: Engines, database: str, tmp_path: Path) -> None:
    assert database
    async with serving(engine_set, tmp_path, http={"app": "./custom_app.py:app"}, app=APP) as stack:
        assert (stack.logs / "opened").exists()
        assert not (stack.logs / "closed").exists()
    assert (stack.logs / "closed").exists()


STARLETTE = """
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route


    class Closed:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            if scope["type"] == "http" and dict(scope["headers"]).get(b"x-closed"):
                await PlainTextResponse("closed", status_code=403)(scope, receive, send)
            else:
                await self.app(scope, receive, send)


    async def refuse(request):
        raise HTTPException(409, "not now")


    async def page(scope, receive, send):
        await PlainTextResponse(f"page {scope['path']}")(scope, receive, send)


    app = Starlette(routes=[Route("/refuse", refuse), Mount("/", app=page)], middleware=[Middleware(Closed)])
"""


@pytest.mark.parametrize(("order", "preflight"), [("auth_first", 200), ("middleware_first", 403)])
async def test_a_starlette_app_with_a_frontend_and_the_order_of_middleware(
    engine_set: Engines, database: str, tmp_path: Path, order: str, preflight: int
) -> None:
    assert database
    config = {"app": "./custom_app.py:app", "middleware_order": order}
    async with (
        serving(engine_set, tmp_path, http=config, app=STARLETTE) as stack,
        httpx.AsyncClient(base_url=stack.url) as http,
    ):
        closed = {"x-closed": "yes"}
        asked = {**closed, "origin": "https://page.example", "access-control-request-method": "POST"}
        assert (await http.options("/threads", headers=asked)).status_code == preflight
        assert (await http.get("/ok", headers=closed)).text == "closed"
        assert (await http.get("/ok")).json() == {"ok": True, "services": {}}
        assert (await http.get("/refuse")).json() == {"detail": "not now"}
        # A mount of everything gets what we have no route for, and the first page.
        assert [(await http.get(path)).text for path in ("/", "/any/page.html")] == ["page /", "page /any/page.html"]
        assert (await http.post("/assistants/search", json={"graph_id": "graph"})).json()[0]["graph_id"] == "graph"


@pytest.mark.parametrize(
    ("http", "words"),
    [
        ({"app": "./custom_app.py:nothing"}, ["http.app", "nothing"]),
        ({"app": "./custom_app.py:number"}, ["http.app", "int"]),
        ({"disable_stroe": True}, ["http.disable_stroe", "disable_store"]),
        ({"middleware_order": "sideways"}, ["http.middleware_order", "auth_first"]),
        ({"cors": {"max_age": "long"}}, ["http.cors.max_age", "integer"]),
    ],
)
async def test_what_cannot_be_used_is_refused_at_start(tmp_path: Path, http: dict[str, Any], words: list[str]) -> None:
    (tmp_path / "custom_app.py").write_text("number = 1")
    (tmp_path / "langgraph.json").write_text("{}")
    with pytest.raises(ConfigError) as refusal:
        create_app(Settings(), Graphs({}, parse({"http": http}), tmp_path))
    for word in words:
        assert word in str(refusal.value)
