"""What a page of another site can have a user's browser do: nothing, unless its origin is named."""

import httpx
import pytest
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from durathread.api.http.origins import Hosts, may_act
from durathread.config.http import Cors
from durathread.embedded.engines import Engines
from durathread.embedded.http import get
from tests.hostile.conftest import headers_of
from tests.stack import Stack

EVIL = "https://evil.example"
APP = "https://app.example"
ANY = Cors(allow_origins=["*"])
NAMED = Cors(allow_origins=[APP])
PATTERN = Cors(allow_origin_regex=r"https://.*\.example")
NOBODY = Cors(allow_origins=[])
COOKIE = {"cookie": "session=alice"}
BASIC = {"authorization": "Basic YTpi"}
TOKEN = {"authorization": "Bearer alice"}


@pytest.mark.parametrize(
    ("cors", "headers", "allowed"),
    [
        # No browser.
        (NAMED, {}, True),
        (ANY, COOKIE, True),
        # Any page may call, but not in a user's name.
        (ANY, {"origin": EVIL}, True),
        (ANY, {"origin": EVIL, **TOKEN}, True),
        (ANY, {"origin": EVIL, **COOKIE}, False),
        (ANY, {"origin": EVIL, **BASIC}, False),
        (ANY, {"origin": "null", **COOKIE}, False),
        (ANY, {"origin": EVIL, "sec-fetch-site": "cross-site", **COOKIE}, False),
        (ANY, {"origin": "https://other.server.example", "sec-fetch-site": "same-site", **COOKIE}, False),
        (ANY, {"sec-fetch-site": "cross-site", **COOKIE}, False),
        (ANY, {"sec-fetch-site": "cross-site"}, True),
        (NAMED, {"sec-fetch-site": "cross-site"}, False),
        # A proxy adds who has signed in, whichever page asks.
        *((ANY, {"origin": EVIL, name: "alice"}, False) for name in ("x-forwarded-access-token", "x-forwarded-user")),
        *((ANY, {"origin": EVIL, name: "alice"}, False) for name in ("remote-user", "x-forwarded-client-cert")),
        (ANY, {"x-forwarded-user": "alice"}, True),
        # Its own pages, also after a proxy that asks for another name.
        (NOBODY, {"origin": "https://server.example", **COOKIE}, True),
        (NOBODY, {"origin": "https://SERVER.example:443", **COOKIE}, True),
        (NOBODY, {"origin": "https://server.example.evil", **COOKIE}, False),
        (NOBODY, {"origin": "https://outside.example", "sec-fetch-site": "same-origin", **COOKIE}, True),
        (NOBODY, {"sec-fetch-site": "none", **COOKIE}, True),
        (NOBODY, {"origin": "http://agents.lan", "x-forwarded-host": "agents.lan", **COOKIE}, True),
        (NOBODY, {"origin": EVIL, "x-forwarded-host": "agents.lan", **COOKIE}, False),
        (NOBODY, {"origin": EVIL, "x-forwarded-host": "evil.example", "sec-fetch-site": "cross-site"}, False),
        # Those that are named.
        (NAMED, {"origin": APP, "sec-fetch-site": "cross-site", **COOKIE}, True),
        (PATTERN, {"origin": APP, **COOKIE}, True),
        (NAMED, {"origin": EVIL}, False),
        (PATTERN, {"origin": "https://any.example.org"}, False),
        (NAMED, {"origin": f"{APP}.evil", **COOKIE}, False),
        (NAMED, {"origin": "null"}, False),
    ],
)
def test_who_may_act(cors: Cors, headers: dict[str, str], allowed: bool) -> None:
    assert may_act(cors, Headers({"host": "server.example", **headers})) == allowed


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/json"])
async def test_a_form_of_another_site_posts_nothing(readme: Stack, content_type: str) -> None:
    asked = {**headers_of("alice"), **COOKIE, "content-type": content_type}
    async with httpx.AsyncClient(base_url=readme.url, headers=asked) as http:
        refused = await http.post("/threads", content=b"{}", headers={"origin": EVIL})
        assert (refused.status_code, EVIL in refused.json()["detail"]) == (403, True)
        assert (await http.post("/threads", content=b"{}", headers={"sec-fetch-site": "cross-site"})).status_code == 403
        assert (await http.post("/threads", content=b"{}", headers={"origin": readme.url})).status_code == 200
        gone = f"/threads/{'0' * 8}-0000-7000-8000-{'0' * 12}/runs/x/join?cancel_on_disconnect=true"
        for spelled in (gone, gone.replace("cancel_on", "cancel%5Fon"), gone.replace("disconnect", "d%69sconnect")):
            assert (await http.get(spelled, headers={"origin": EVIL})).status_code == 403


@pytest.mark.parametrize(
    ("names", "host", "path", "status"),
    [
        ("", "any.example", "/info", 200),
        ("*", "any.example", "/info", 200),
        ("api.example, *", "any.example", "/info", 200),
        ("api.example", "API.example:8123", "/info", 200),
        ("api.example", "10.1.2.3:8123", "/info", 403),
        ("api.example", "10.1.2.3:8123", "/metrics", 403),
        ("api.example", "10.1.2.3:8123", "/ok", 200),
        ("api.example", "10.1.2.3:8123", "/ready", 200),
    ],
)
async def test_only_names_that_are_served_are_answered_and_probes(
    names: str, host: str, path: str, status: int
) -> None:
    transport = httpx.ASGITransport(Hosts(PlainTextResponse("served"), names=names))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        assert (await http.get(path, headers={"host": host})).status_code == status
        if path in ("/ok", "/ready") and names == "api.example":
            assert (await http.post(path, headers={"host": host})).status_code == 403


async def test_a_socket_of_another_site_with_a_cookie_is_closed(readme: Stack) -> None:
    async with httpx.AsyncClient(base_url=readme.url, headers=headers_of("alice")) as http:
        thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    url = f"ws://127.0.0.1:{readme.port}/threads/{thread_id}/stream/events"
    async with connect(url, additional_headers={"origin": EVIL, **headers_of("alice"), **COOKIE}) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd
    assert closed.value.rcvd.code == 4403


async def test_an_answer_is_what_it_says_that_it_is_and_leads_nowhere_else(readme: Stack) -> None:
    async with httpx.AsyncClient(base_url=readme.url, headers=headers_of("alice")) as http:
        for path in ("/ok", "/threads/x", "/nothing", "/docs"):
            assert (await http.get(path)).headers["x-content-type-options"] == "nosniff"
        for path in ("/threads/", "//evil.example/threads/", "/threads/search/?a=b"):
            moved = await http.post(f"{readme.url}{path}", json={}, headers={"host": "evil.example"})
            assert "evil.example" not in moved.headers.get("location", "")
        moved = await http.post("/threads/search/?a=b", json={}, headers={"host": "evil.example"})
        assert (moved.status_code, moved.headers["location"]) == (307, "/threads/search?a=b")


async def test_a_page_starts_no_workflow(engine_set: Engines) -> None:
    """Temporal's development server opens a port for HTTP, and takes what is sent as text for JSON."""
    temporal = engine_set.temporal
    path = "/api/v1/namespaces/default/workflows/planted"
    body = b'{"workflowType": {"name": "Thread"}, "taskQueue": {"name": "x"}}'
    for host in (f"127.0.0.1:{temporal.http_port}", "localhost", "evil.example"):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{temporal.http_port}") as http:
            answer = await http.post(path, content=body, headers={"content-type": "text/plain", "host": host})
        assert answer.status_code == 403
    status, _ = await get(temporal.http_port, "/api/v1/namespaces/default")
    assert status == 403


def test_what_the_engines_keep_is_for_their_owner(engine_set: Engines) -> None:
    for name in ("temporal.db", "temporal.db-wal"):
        assert (engine_set.folder.path / name).stat().st_mode & 0o077 == 0
