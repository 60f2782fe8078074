"""The API under a path of its own."""

import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from langgraph_sdk import get_client
from starlette.types import Receive, Scope, Send

from durathread.api.http.entrance import MountPrefix
from durathread.api.http.json_answers import Json
from durathread.config.http import Http, http_config
from durathread.config.settings import Settings
from durathread.embedded.engines import Engines
from durathread.errors import ConfigError
from tests.api.serving import serving
from tests.stack import Stack

PREFIX = "/agents/v1"
APP = """
    from fastapi import FastAPI, Request

    app = FastAPI()


    @app.get("/hello")
    async def hello(request: Request):
        return str(request.url_for("hello"))
"""


@pytest.fixture(scope="module")
async def stack(engine_set: Engines, database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A server under a prefix, with a custom app."""
    assert database
    folder = tmp_path_factory.mktemp("prefix")
    http = {"mount_prefix": f"{PREFIX}/", "app": "./custom_app.py:app"}
    async with serving(engine_set, folder, http=http, app=APP, workers=1) as found:
        yield found


async def test_the_whole_api_is_under_the_prefix_and_health_also_outside(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.url) as http:
        for path in ("/", "/ok", "/metrics"):
            assert (await http.get(path)).status_code == (await http.get(PREFIX + path)).status_code == 200
        for path in ("/info", "/hello", "/openapi.json", f"{PREFIX}x/ok", "/agents"):
            answer = await http.get(path)
            assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})
        assert (await http.get(f"{PREFIX}/info")).json()["version"]
        assert (await http.get(f"{PREFIX}/hello")).json() == f"{stack.url}{PREFIX}/hello"
        assert f"'{PREFIX}/openapi.json'" in (await http.get(f"{PREFIX}/docs")).text
        assert (await http.get(f"{PREFIX}/openapi.json")).json()["servers"] == [{"url": PREFIX}]


async def test_the_sdk_works_below_a_prefix(stack: Stack) -> None:
    async with get_client(url=stack.url + PREFIX) as client:
        thread = await client.threads.create()
        values: Any = await client.runs.wait(thread["thread_id"], "graph", input={"log": ["in"]})
        assert values["log"] == ["in", "worked"]
        started: list[Any] = []
        parts = [
            part.event
            async for part in client.runs.stream(
                thread["thread_id"], "graph", input={}, stream_mode="updates", on_run_created=started.append
            )
        ]
        assert parts == ["metadata", "updates", "end"]
        assert started[0]["thread_id"] == thread["thread_id"]


@pytest.mark.parametrize("stateless", [True, False])
async def test_locations_lead_back_for_browsers_and_for_the_sdk(stack: Stack, stateless: bool) -> None:
    async with get_client(url=stack.url + PREFIX) as client:
        http = client.http.client
        thread = await client.threads.create()
        path = "/runs/stream" if stateless else f"/threads/{thread['thread_id']}/runs/stream"
        body = {"assistant_id": "graph", "input": {}, "stream_resumable": True, "on_completion": "keep"}
        answer = await http.post(path, json=body)
        location = answer.headers["location"]
        assert location.startswith(f"{PREFIX}/threads/")
        assert answer.headers["content-location"].startswith(f"{PREFIX}/{'runs' if stateless else 'threads'}/")
        # By the RFC, and as httpx does it, below the base URL.
        for url in (urljoin(stack.url, location), location):
            again = await http.get(url, headers={"last-event-id": "-1"})
            assert again.status_code == 200
            assert re.findall(r"event: (\w+)", again.text) == ["metadata", "values", "end"]
        thread_stream = await http.send(
            http.build_request("GET", f"/threads/{thread['thread_id']}/stream"), stream=True
        )
        assert thread_stream.headers["location"].startswith(f"{PREFIX}/threads/{thread['thread_id']}/stream?")
        await thread_stream.aclose()


@pytest.mark.parametrize(
    ("root", "path", "seen"),
    [
        ("", "/p/threads", ("/p", "/p/threads")),
        ("", "/p", ("/p", "/p/")),
        ("", "/ok", ("", "/ok")),
        ("", "/p/p/threads/1", ("/p", "/p/threads/1")),
        # A custom route of that name, not a location.
        ("", "/p/p/hello", ("/p", "/p/p/hello")),
        # A reverse proxy that says where it has mounted us, and one that has also cut that off.
        ("/proxy", "/proxy/p/threads", ("/proxy/p", "/proxy/p/threads")),
        ("/proxy", "/p/threads", ("/proxy/p", "/proxy/p/threads")),
        ("/proxy", "/proxy/p/proxy/p/runs/1", ("/proxy/p", "/proxy/p/runs/1")),
        ("", "/pp/threads", None),
        ("", "/threads", None),
    ],
)
async def test_a_path_is_found_below_the_prefix_and_below_a_proxys(
    root: str, path: str, seen: tuple[str, str] | None
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Json([scope["root_path"], scope["path"]])(scope, receive, send)

    mounted = MountPrefix(app, prefix="/p")
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(mounted, root_path=root), base_url="http://test"
    ) as http:
        answer = await http.get(path)
    assert (answer.json() if answer.status_code == 200 else None) == (list(seen) if seen else None)


@pytest.mark.parametrize(("given", "prefix"), [("", ""), ("/", ""), ("a", "/a"), ("/a/b/", "/a/b")])
def test_a_prefix_may_be_spelled_with_or_without_slashes(given: str, prefix: str) -> None:
    assert http_config(Http(mount_prefix=given), Settings()).mount_prefix == prefix


def test_the_environment_decides_about_the_prefix() -> None:
    assert http_config(Http(mount_prefix="/file"), Settings(mount_prefix="/set")).mount_prefix == "/set"


@pytest.mark.parametrize("given", ["/a b", "/a?b", "/{a}", "http://x"])
def test_a_prefix_that_is_no_path_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match="mount_prefix"):
        http_config(Http(mount_prefix=given), Settings())
