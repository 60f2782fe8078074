"""`http.disable_…`: what of the API is not served."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from durathread.api.app import create_app
from durathread.config.http import Http, http_config
from durathread.config.langgraph_json import parse
from durathread.config.settings import Settings
from durathread.embedded.engines import Engines
from durathread.graphs.registry import Graphs
from tests.api.serving import serving
from tests.stack import Stack

ID = "00000000-0000-7000-8000-000000000000"
ROUTES = {
    "disable_assistants": [("POST", "/assistants/search"), ("GET", f"/assistants/{ID}/graph")],
    "disable_threads": [("POST", "/threads"), ("GET", f"/threads/{ID}/state"), ("GET", f"/threads/{ID}/stream")],
    "disable_runs": [("POST", "/runs/wait"), ("POST", f"/threads/{ID}/runs"), ("POST", "/runs/batch")],
    "disable_store": [("PUT", "/store/items"), ("POST", "/store/namespaces")],
    "disable_event_streaming": [("POST", f"/threads/{ID}/commands"), ("POST", f"/threads/{ID}/stream/events")],
    "disable_meta": [("GET", "/info"), ("GET", "/metrics"), ("GET", "/docs"), ("GET", "/openapi.json")],
}


@pytest.fixture(scope="module")
async def stack(engine_set: Engines, database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A server of which everything is disabled."""
    assert database
    folder = tmp_path_factory.mktemp("disabled")
    async with serving(engine_set, folder, http=dict.fromkeys(ROUTES, True)) as found:
        yield found


async def test_what_is_disabled_is_not_found(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.url) as http:
        for method, path in (route for routes in ROUTES.values() for route in routes):
            answer = await http.request(method, path, json={})
            assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"}), path


async def test_health_is_said_all_the_same_and_nothing_else(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.url) as http:
        for path in ("/", "/ok", "/ready", "/ok?check_db=1", "/ok?check_db=nonsense"):
            assert (await http.get(path)).json() == {"ok": True}


@pytest.mark.parametrize("switch", ROUTES)
async def test_a_switch_disables_its_own_routes_and_no_others(switch: str) -> None:
    def routes(app: httpx.ASGITransport) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=app, base_url="http://test")

    transport = httpx.ASGITransport(create_app(Settings(), Graphs({}, parse({"http": {switch: True}}), Path())))
    async with routes(transport) as http:
        for name, wanted in ROUTES.items():
            for _, path in wanted:
                # No route has this method: known paths say so.
                status = (await http.request("BREW", path)).status_code
                gone = switch == name or (switch, name) == ("disable_threads", "disable_event_streaming")
                assert status == (404 if gone else 405), path


def test_the_environment_disables_protocol_v2_as_well() -> None:
    assert http_config(Http(), Settings(event_streaming=False)).disable_event_streaming
    assert not http_config(Http(), Settings()).disable_event_streaming
