"""A reader that stops reading: it loses nothing, holds up nobody, and what it has not read is not kept in the API."""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from websockets.asyncio.client import connect

from tests.protocol.support import Event, data_of, is_end, run_start, watching
from tests.stack import Stack

# Sixty megabytes: more than sockets hold, and more than the API may.
NUMBER, LETTERS = 600, 100_000
MOST = NUMBER * LETTERS / 2
CHANNELS = ["custom", "lifecycle"]
LONG = 60.0
SMALL = (socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)


@asynccontextmanager
async def over_socket(url: str, thread_id: str) -> AsyncGenerator[AsyncIterator[Event]]:
    """Watch over a WebSocket whose buffers are small."""
    host, _, port = url.removeprefix("http://").partition(":")
    plain = socket.socket()
    plain.setsockopt(*SMALL)
    plain.connect((host, int(port)))
    plain.setblocking(False)
    address = f"ws://{host}:{port}/threads/{thread_id}/stream/events"
    async with connect(address, sock=plain, max_queue=1, max_size=None, ping_interval=None) as talk:
        params = {"channels": CHANNELS}
        await talk.send(orjson.dumps({"id": 1, "method": "subscription.subscribe", "params": params}).decode())
        assert orjson.loads(await talk.recv())["type"] == "success"

        async def events() -> AsyncIterator[Event]:
            async for message in talk:
                yield orjson.loads(message)

        yield events()


@asynccontextmanager
async def over_sse(url: str, thread_id: str) -> AsyncGenerator[AsyncIterator[Event]]:
    """Watch over server-sent events through a connection whose buffers are small."""
    transport = httpx.AsyncHTTPTransport(socket_options=[SMALL])
    async with (
        httpx.AsyncClient(base_url=url, transport=transport, timeout=LONG) as http,
        http.stream("POST", f"/threads/{thread_id}/stream/events", json={"channels": CHANNELS}) as response,
    ):

        async def events() -> AsyncIterator[Event]:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    yield orjson.loads(line.removeprefix("data: "))

        yield events()


def memory(stack: Stack) -> int:
    """Read how many bytes of memory the API holds."""
    status = Path(f"/proc/{stack.processes['api'].pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("opened", [over_socket, over_sse])
async def test_a_reader_that_stops_reading(server: Stack, thread_id: str, opened: Any) -> None:
    async with opened(server.url, thread_id) as slow, watching(server.url, thread_id, CHANNELS, patience=LONG) as fast:
        before = memory(server)
        question = {"messages": [{"role": "user", "content": f"{NUMBER} {LETTERS}"}]}
        await run_start(server.url, thread_id, "torrent", input=question)
        # The other has all of it, while this one has read nothing.
        seen = await fast.ended()
        assert memory(server) - before < MOST
        async with opened(server.url, thread_id) as late:
            # Nor does one who comes when all of it is there, and reads no more than the beginning.
            assert await anext(late) == seen[0]
            assert memory(server) - before < MOST
        found = list[Event]()
        async with asyncio.timeout(LONG):
            async for event in slow:
                found.append(event)
                if is_end(event):
                    break
    assert found == seen
    payloads = [data["payload"] for data in data_of(found, "custom")]
    assert [payload["count"] for payload in payloads] == list(range(NUMBER))
    assert {len(payload["filler"]) for payload in payloads} == {LETTERS}
