"""The requests that Studio is known to make: from an https page, with JSON that is sent as text."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.clients.pages import events_of, values_of
from tests.stack import Stack

ORIGIN = "https://smith.langchain.com"
AGENT = "fe096781-5601-53d2-b2f6-0d3403f7e9ca"


@pytest.fixture
async def studio(server: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """Studio's requests."""
    headers = {"origin": ORIGIN, "x-auth-scheme": "langsmith"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=30) as http:
        yield http


async def post(studio: httpx.AsyncClient, path: str, body: Any) -> httpx.Response:
    """Send JSON as a simple request does, which needs no preflight."""
    headers = {"content-type": "text/plain;charset=UTF-8"}
    return await studio.post(path, content=json.dumps(body).encode(), headers=headers)


async def test_a_page_on_the_internet_may_reach_a_server_on_this_machine(studio: httpx.AsyncClient) -> None:
    asked = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,x-auth-scheme",
        "access-control-request-private-network": "true",
    }
    answer = await studio.request("OPTIONS", "/threads", headers=asked)
    assert answer.is_success
    assert answer.headers["access-control-allow-private-network"] == "true"
    assert answer.headers["access-control-allow-origin"] in ("*", ORIGIN)
    assert "access-control-allow-credentials" not in answer.headers
    assert (await studio.get("/info")).headers["access-control-allow-origin"] in ("*", ORIGIN)


async def test_graphs_are_found_drawn_and_described(studio: httpx.AsyncClient) -> None:
    body = {"limit": 100, "offset": 0, "metadata": {"created_by": "system"}}
    found = {each["graph_id"]: each for each in (await post(studio, "/assistants/search", body)).json()}
    assert found["agent"]["assistant_id"] == AGENT
    for path in ("graph?xray=true", "schemas", "subgraphs?recurse=true"):
        assert (await studio.get(f"/assistants/{AGENT}/{path}")).is_success
    versions = (await post(studio, f"/assistants/{AGENT}/versions", {"limit": 10})).json()
    assert [each["version"] for each in versions] == [1]


async def test_a_thread_is_run_looked_at_and_run_again_from_a_checkpoint(studio: httpx.AsyncClient) -> None:
    thread_id = (await post(studio, "/threads", {})).json()["thread_id"]
    body: Any = {"assistant_id": AGENT, "input": {"log": ["in"]}, "stream_mode": ["debug", "values", "messages"]}
    events = events_of(await post(studio, f"/threads/{thread_id}/runs/stream", body))
    assert values_of(events)["log"] == ["in", "a", "b", "c"]
    shown = [data["payload"] for name, data in events if name == "debug" and data["type"] == "checkpoint"]
    after_a = next(each for each in shown if each["next"] == ["b"])["checkpoint"]["checkpoint_id"]
    state = (await studio.get(f"/threads/{thread_id}/state/{after_a}?subgraphs=true")).json()
    assert state["values"]["log"] == ["in", "a"]
    where = {"checkpoint": {"thread_id": thread_id, "checkpoint_ns": "", "checkpoint_id": after_a}}
    assert (await post(studio, f"/threads/{thread_id}/state/checkpoint", where)).json()["values"] == state["values"]

    fork = {"values": None, "as_node": "__copy__", "checkpoint_id": after_a}
    copied = (await post(studio, f"/threads/{thread_id}/state", fork)).json()["checkpoint"]
    again = {"assistant_id": AGENT, "input": None, "checkpoint_id": copied["checkpoint_id"], "stream_mode": ["values"]}
    events = events_of(await post(studio, f"/threads/{thread_id}/runs/stream", again))
    assert values_of(events)["log"] == ["in", "a", "b", "c"]
