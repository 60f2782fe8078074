"""A token that ends ends what was opened with it."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.api.auth import script
from tests.stack import Stack


@pytest.fixture
def token(tmp_path: Path) -> dict[str, str]:
    """A token that is good until `tmp_path` has a file `over`."""
    return script(user={"identity": "x"}, until=str(tmp_path / "over"))


async def thread_of(http: httpx.AsyncClient) -> str:
    """Create a thread."""
    return (await http.post("/threads", json={})).json()["thread_id"]


async def test_a_stream_ends_with_its_token(scripted: Stack, token: dict[str, str], tmp_path: Path) -> None:
    async with httpx.AsyncClient(base_url=scripted.url, headers=token, timeout=30) as http:
        thread_id = await thread_of(http)
        async with http.stream("GET", f"/threads/{thread_id}/stream") as answer:
            assert answer.status_code == 200
            (tmp_path / "over").touch()
            # To its end, and properly so.
            whole = b"".join([chunk async for chunk in answer.aiter_bytes()])
            assert whole.endswith(b'event: error\r\ndata: {"error":"Unauthorized","message":"Unauthorized"}\r\n\r\n')
        assert (await http.get(f"/threads/{thread_id}")).status_code == 401


async def test_a_stream_lasts_as_long_as_its_token(scripted: Stack, token: dict[str, str]) -> None:
    body: Any = {"assistant_id": "agent", "input": {"log": [], "do": {"a": {"sleep": 3}}}}
    async with httpx.AsyncClient(base_url=scripted.url, headers=token, timeout=30) as http:
        answer = await http.post("/runs/wait", json=body)
        assert answer.json()["log"] == ["a", "b", "c"]


async def test_a_socket_ends_with_its_token(scripted: Stack, token: dict[str, str], tmp_path: Path) -> None:
    async with httpx.AsyncClient(base_url=scripted.url, headers=token) as http:
        thread_id = await thread_of(http)
    url = f"ws://127.0.0.1:{scripted.port}/threads/{thread_id}/stream/events"
    async with connect(url, additional_headers=token) as socket:
        (tmp_path / "over").touch()
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4401, "Unauthorized")


async def test_who_is_not_authenticated_is_refused(scripted: Stack) -> None:
    async with httpx.AsyncClient(base_url=scripted.url) as http:
        said = script(user={"identity": "x", "is_authenticated": False})
        assert (await http.post("/threads", json={}, headers=said)).status_code == 401
