"""A client of v1 that stops reading: it loses nothing, and what it has not read is not kept in the API."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import orjson

from tests.protocol.test_slow_readers import LETTERS, LONG, MOST, NUMBER, SMALL, memory
from tests.stack import Stack

SLOW = 5


@asynccontextmanager
async def joined(url: str, thread_id: str, run_id: str) -> AsyncGenerator[httpx.Response]:
    """Watch a run through a connection whose buffers are small."""
    transport = httpx.AsyncHTTPTransport(socket_options=[SMALL, (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)])
    async with (
        httpx.AsyncClient(base_url=url, transport=transport, timeout=LONG) as http,
        http.stream("GET", f"/threads/{thread_id}/runs/{run_id}/stream", headers={"Last-Event-ID": "-1"}) as response,
    ):
        yield response


async def counts(response: httpx.Response) -> list[int]:
    """Read a stream to its end, and return the numbers of its events."""
    found: list[int] = []
    async for line in response.aiter_lines():
        if line.startswith("data: ") and '"count"' in line:
            payload: dict[str, Any] = orjson.loads(line.removeprefix("data: "))
            assert len(payload["filler"]) == LETTERS
            found.append(payload["count"])
    return found


async def test_clients_that_stop_reading_cost_a_page_each(server: Stack, thread_id: str) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=LONG) as http:
        body = {
            "assistant_id": "torrent",
            "input": {"messages": [{"role": "user", "content": f"{NUMBER} {LETTERS}"}]},
            "stream_mode": "custom",
            "if_not_exists": "create",
        }
        before = memory(server)
        run_id = (await http.post(f"/threads/{thread_id}/runs", json=body)).json()["run_id"]
        async with AsyncExitStack() as stack:
            slow = [await stack.enter_async_context(joined(server.url, thread_id, run_id)) for _ in range(SLOW)]
            async with joined(server.url, thread_id, run_id) as fast:
                # The other has all of it, while these have read nothing.
                assert await counts(fast) == list(range(NUMBER))
            assert memory(server) - before < MOST
            assert await asyncio.gather(*map(counts, slow)) == [list(range(NUMBER))] * SLOW
