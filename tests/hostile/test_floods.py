"""What somebody can cost the server without a login: raw sockets, and nothing that they send is kept for long."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import psutil
import pytest

from durathread.api.http import limits
from durathread.embedded.engines import Engines
from tests.conftest import environment_of
from tests.eventually import eventually
from tests.stack import Stack, running

HEAD = b"GET /ok HTTP/1.1\r\nHost: x\r\n"
SHORT = 4
"""Connections that the small server takes."""


async def opened(server: Stack) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a raw connection."""
    return await asyncio.open_connection("127.0.0.1", server.port)


async def answer_to(server: Stack, *parts: bytes) -> bytes:
    """Send bytes as long as they are taken, and return what comes back: nothing if the connection is torn down at once."""
    reader, writer = await opened(server)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        return await asyncio.wait_for(reader.read(4096), 60)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def streaming(server: Stack) -> asyncio.StreamWriter:
    """Open a stream that does not end, and keeps its connection however long the machine stalls."""
    reader, writer = await opened(server)
    body = b'{"if_exists": "do_nothing", "thread_id": "%b"}' % str(uuid4()).encode()
    thread_id = json.loads(body)["thread_id"].encode()
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    writer.write(b"POST /threads HTTP/1.1\r\nHost: x\r\n" + length + body)
    assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
    writer.write(b"GET /threads/%b/stream HTTP/1.1\r\nHost: x\r\n\r\n" % thread_id)
    await reader.readuntil(b"text/event-stream")
    return writer


@pytest.fixture(scope="module")
async def small(engine_set: Engines, database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """An API that takes few connections."""
    assert database
    environment = environment_of(engine_set, queue="small")
    own = {**environment, "DURATHREAD_MAX_CONNECTIONS": str(SHORT)}
    async with running(own, tmp_path_factory.mktemp("small"), workers=0) as stack:
        yield stack


@pytest.mark.parametrize(
    "flood",
    [
        [HEAD, b"X-Long: " + b"a" * 400_000],
        [HEAD, b"X-Long: " + b"a" * 70_000 + b"\r\n\r\n"],
        [HEAD, *(b"X-%d: a\r\n" % n for n in range(8_000)), b"\r\n"],
        [b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"],
        [
            b"POST /threads HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            b"X-Trail: " + b"a" * 70_000 + b"\r\n\r\n",
        ],
    ],
    ids=["one that does not end", "one header", "many headers", "a long path", "a trailer"],
)
async def test_headers_without_end_are_refused(readme: Stack, flood: list[bytes]) -> None:
    first = (await answer_to(readme, *flood)).split(b"\r\n")[0]
    assert first in (b"HTTP/1.1 431 Request Header Fields Too Large", b"HTTP/1.1 401 Unauthorized", b"")


async def test_a_flood_of_headers_takes_no_memory(readme: Stack) -> None:
    process = psutil.Process(readme.processes["api"].pid)
    before = process.memory_info().rss
    await asyncio.gather(
        *(answer_to(readme, HEAD, *([b"X-Flood: " + b"a" * 65_000 + b"\r\n"] * 100)) for _ in range(10))
    )
    assert process.memory_info().rss - before < 64 * 1024 * 1024


async def test_headers_of_a_reasonable_size_are_read(readme: Stack) -> None:
    answer = await answer_to(readme, HEAD, b"X-Long: " + b"a" * 50_000 + b"\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")


async def test_a_request_that_does_not_come_is_not_waited_for(readme: Stack) -> None:
    """All at once, as each takes its time."""
    began = time.monotonic()
    slow = [
        [b"G"],
        [HEAD],
        [HEAD, b"X-Slow: a"],
        [b"POST /threads HTTP/1.1\r\nAuthorization: Bearer alice\r\nContent-Length: 10\r\n\r\n{"],
        [b"POST /threads HTTP/1.1\r\nAuthorization: Bearer alice\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{"],
    ]
    silent, *answers = await asyncio.gather(answer_to(readme, b""), *(answer_to(readme, *parts) for parts in slow))
    assert silent == b""
    assert {answer.split(b"\r\n")[0] for answer in answers} == {b"HTTP/1.1 408 Request Timeout"}
    assert time.monotonic() - began >= limits.HEADERS_PATIENCE - 1


async def test_there_is_a_bound_on_connections(small: Stack) -> None:
    busy = await asyncio.gather(*(streaming(small) for _ in range(SHORT)))
    assert (await answer_to(small, b"")).startswith(b"HTTP/1.1 503")
    for writer in busy:
        writer.close()

    async def there_is_room() -> bool:
        return (await answer_to(small, HEAD, b"Connection: close\r\n\r\n")).startswith(b"HTTP/1.1 200")

    await eventually(there_is_room)


async def test_what_nobody_need_log_in_for_is_answered_however_many_ask(readme: Stack) -> None:
    asked = [
        answer_to(readme, b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path)
        for path in (b"/metrics", b"/ok?check_db=1", b"/ready")
        for _ in range(50)
    ]
    statuses = [answer.split(b" ")[1] for answer in await asyncio.gather(*asked)]
    assert set(statuses[:50]) == {b"200"}
    # On a busy machine an engine may take longer than it is given.
    assert set(statuses[50:]) <= {b"200", b"503"}
