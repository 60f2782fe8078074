"""Who may watch a thread by the streaming protocol, and send it commands."""

from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from tests.api.auth import headers_of
from tests.stack import Stack

EVERYTHING: Any = {"channels": ["lifecycle"]}


async def ask(server: Stack, thread_id: str, who: str | None, method: str, **params: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=server.url, headers=headers_of(who) if who else {}) as http:
        body = {"id": 1, "method": method, "params": params}
        return await http.post(f"/threads/{thread_id}/commands", json=body)


async def test_a_thread_is_watched_by_its_owner(
    owners: Stack, alice: LangGraphClient, bob: LangGraphClient, thread_id: str
) -> None:
    await alice.threads.create(thread_id=thread_id)
    path = f"{owners.url}/threads/{thread_id}/stream/events"
    async with httpx.AsyncClient() as http:
        async with http.stream("POST", path, json=EVERYTHING, headers=headers_of("alice")) as response:
            assert response.status_code == 200
        assert (await http.post(path, json=EVERYTHING, headers=headers_of("bob"))).status_code == 404
        assert (await http.post(path, json=EVERYTHING)).status_code == 401
    socket = path.replace("http", "ws", 1)
    async with connect(socket, additional_headers=headers_of("alice")) as open_socket:
        await open_socket.ping()
    with pytest.raises(ConnectionClosedError) as closed:
        async with connect(socket, additional_headers=headers_of("bob")) as open_socket:
            await open_socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4404
    with pytest.raises(InvalidStatus) as refused:
        async with connect(socket):
            pass
    assert refused.value.response.status_code == 401


async def test_commands_are_those_of_the_owner(owners: Stack, alice: LangGraphClient, thread_id: str) -> None:
    started = (await ask(owners, thread_id, "alice", "run.start", assistant_id="who", input={})).json()
    assert started["type"] == "success"
    await alice.runs.join(thread_id, started["result"]["run_id"])
    assert (await alice.threads.get(thread_id))["metadata"] is not None
    others = (await ask(owners, thread_id, "bob", "run.start", assistant_id="who", input={})).json()
    assert (others["type"], others["error"]) == ("error", "invalid_argument")
    assert (await ask(owners, thread_id, "bob", "state.get", namespace=[])).json()["result"] == {"values": {}}
    assert (await ask(owners, thread_id, "bob", "agent.getTree")).json()["error"] == "no_such_run"
    seen: Any = (await ask(owners, thread_id, "alice", "state.get", namespace=[])).json()["result"]["values"]["seen"]
    assert seen["user_id"] == "alice"
    assert (await ask(owners, thread_id, None, "run.start", assistant_id="who")).status_code == 401
