"""What keeps a place among the connections: only a request that comes, or an answer that is read."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import connect

from durathread.api.http import limits
from tests.eventually import eventually

SHORT = 0.3
LARGE = b"x" * 32_000_000
GET = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer before the body is there: much, or little; or say what a socket says."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    body = LARGE if scope["path"] == "/large" else b"ok"
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def served(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[uvicorn.Server]:
    """A server with little patience."""
    monkeypatch.setattr(limits, "HEADERS_PATIENCE", SHORT)
    monkeypatch.setattr(limits, "UNREAD", SHORT)
    http = limits.bounded(100)
    config = uvicorn.Config(app, http=http, port=0, lifespan="off", log_level="error", timeout_keep_alive=1)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())

    async def started() -> bool:
        return server.started

    await eventually(started)
    yield server
    server.should_exit = True
    await serving


def port_of(server: uvicorn.Server) -> int:
    """Return where a server listens."""
    return server.servers[0].sockets[0].getsockname()[1]


@contextlib.asynccontextmanager
async def opened(server: uvicorn.Server) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a raw connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
    try:
        async with asyncio.timeout(60):
            yield reader, writer
    finally:
        writer.close()


async def test_an_empty_line_after_an_answer_keeps_no_connection(served: uvicorn.Server) -> None:
    async with opened(served) as (reader, writer):
        writer.write(GET % b"")
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        writer.write(b"\r\n")
        assert await reader.read() == b""


async def test_empty_lines_are_not_read_without_end(served: uvicorn.Server) -> None:
    async with opened(served) as (reader, writer):
        writer.write(GET % b"")
        await reader.readuntil(b"ok")
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                writer.write(b"\r\n" * 1000)
                await writer.drain()
            await reader.read()


async def test_a_request_after_an_empty_line_is_answered(served: uvicorn.Server) -> None:
    async with opened(served) as (reader, writer):
        for _ in range(3):
            writer.write(GET % b"")
            await reader.readuntil(b"ok")
            writer.write(b"\r\n")


async def test_what_was_answered_is_not_refused_as_well(served: uvicorn.Server) -> None:
    async with opened(served) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        await reader.readuntil(b"ok")
        assert await reader.read() == b""


async def test_an_answer_that_nobody_reads_keeps_no_connection(served: uvicorn.Server) -> None:
    async with opened(served) as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GET % b"large")

        async def answered_and_closed() -> bool:
            return served.server_state.total_requests == 1 and not served.server_state.connections

        await eventually(answered_and_closed)


async def test_a_socket_lasts(served: uvicorn.Server) -> None:
    async with connect(f"ws://127.0.0.1:{port_of(served)}/") as socket:
        await asyncio.sleep(SHORT * 3)
        await socket.send("there")
        assert await socket.recv() == "there"
