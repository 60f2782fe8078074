"""Clients that are cut at any byte and come back: they see every event once, as who was never cut."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.protocol.support import ALL, PATIENCE, run_start
from tests.proxy import cutting
from tests.stack import Stack

QUESTION: Any = {"messages": [{"role": "user", "content": " ".join(["slowly", *map(str, range(30))])}]}


@dataclass
class Reader:
    """Reads a stream as SSE clients do: an event is whole, or it never was; `last` is the id of the last whole one."""

    url: str
    method: str = "GET"
    body: Any = None
    last: str = ""
    events: list[tuple[str, str, Any]] = field(default_factory=list[tuple[str, str, Any]])

    async def read(self, last_event: str) -> list[tuple[str, str, Any]]:
        """Read to an event of a name, coming back as often as it takes."""
        async with asyncio.timeout(3 * PATIENCE):
            while not (self.events and self.events[-1][1] == last_event):
                try:
                    async for event in self._connection():
                        self.events.append(event)
                        self.last = event[0] or self.last
                        if event[1] == last_event:
                            break
                except httpx.TransportError:
                    continue
        return self.events

    async def _connection(self) -> AsyncIterator[tuple[str, str, Any]]:
        headers = {"Last-Event-ID": self.last} if self.last else {}
        async with (
            httpx.AsyncClient(timeout=PATIENCE) as http,
            http.stream(self.method, self.url, json=self.body, headers=headers) as response,
        ):
            assert response.status_code == 200
            buffer = b""
            async for data in response.aiter_bytes():
                buffer += data
                *whole, buffer = buffer.split(b"\r\n\r\n")
                for block in whole:
                    lines = dict(line.split(b": ", 1) for line in block.split(b"\r\n") if not line.startswith(b":"))
                    if lines:
                        name, text = lines[b"event"].decode(), orjson.loads(lines[b"data"])
                        yield lines.get(b"id", b"").decode(), told(name, text), text


def told(name: str, data: Any) -> str:
    """Name the events that end a run alike."""
    if name == "lifecycle" and not data["params"]["namespace"]:
        return f"run {data['params']['data']['event']}"
    return "run completed" if name == "end" or (name == "metadata" and data.get("status") == "run_done") else name


def allowances(seed: int) -> Iterator[int]:
    """Allow connections a few hundred bytes at first, then more, so that all is read in the end."""
    chance = random.Random(seed)
    return (chance.randint(1, 200 + 300 * number) for number in itertools.count(1))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", ["protocol", "run", "thread"])
async def test_every_event_comes_once(
    server: Stack, thread_id: str, client: LangGraphClient, shape: str, seed: int
) -> None:
    await client.threads.create(thread_id=thread_id)
    if shape == "protocol":
        path, method, body = f"/threads/{thread_id}/stream/events", "POST", {"channels": ALL}
        await run_start(server.url, thread_id, "chat", input=QUESTION)
    else:
        run = await client.runs.create(
            thread_id, "chat", input=QUESTION, stream_mode=["values", "messages-tuple"], stream_resumable=True
        )
        path, method, body = f"/threads/{thread_id}/stream", "GET", None
        path = path if shape == "thread" else f"/threads/{thread_id}/runs/{run['run_id']}/stream?stream_end=true"
    first = "-" if shape == "thread" else "-1" if shape == "run" else ""
    async with cutting(server.url, allowances(seed)) as proxy:
        uncut, cut = await asyncio.gather(
            Reader(f"{server.url}{path}", method, body, last=first).read("run completed"),
            Reader(f"{proxy.url}{path}", method, body, last=first).read("run completed"),
        )
    assert proxy.cuts > 3
    assert cut == uncut
    assert len({event[0] for event in cut}) == len(cut) > 30


@pytest.mark.parametrize("transport", ["sse", "websocket"])
async def test_the_sdk_reads_an_answer_through_cuts(server: Stack, thread_id: str, transport: Any) -> None:
    chance = random.Random(7)
    # The client gives up at the fifth failure in a row: what does not come through must not be too much.
    lengths = (chance.choice([chance.randint(600, 4000), 0]) for _ in itertools.count())
    async with cutting(server.url, lengths) as proxy, get_client(url=proxy.url) as client:
        await run_start(server.url, thread_id, "chat", input=QUESTION)
        opened: Any = client.threads.stream(thread_id, assistant_id="chat", transport=transport)
        async with opened as thread, asyncio.timeout(3 * PATIENCE):
            (message,) = [message async for message in thread.messages]
            assert str(await message.text).split() == QUESTION["messages"][0]["content"].split()
