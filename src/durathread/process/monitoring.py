"""Answers those who watch a process: health checks, and scrapes of Prometheus.

From a thread of its own, so that they are answered whatever the process is at: users' modules that it imports, or their code
that blocks its event loop.
"""

import asyncio
import json
import re
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TypeAlias

from durathread.errors import ConfigError
from durathread.process import event_loop

# How long a request may take to arrive, in seconds.
MONITOR_PATIENCE = 5.0
LAST_PORT = 65535
LISTEN_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[^\]]+)\]|(?P<host>[^:\[\]]*)):(?P<port>\d{1,5})")


@dataclass(frozen=True)
class Answer:
    """What a page says."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    media_type: str = "application/json"


Page: TypeAlias = Callable[[], Answer]


def health(failure: str | None) -> Answer:
    """Say that all is well, or what is not."""
    if failure is None:
        return Answer(b'{"ok":true}')
    return Answer(json.dumps({"ok": False, "error": failure}).encode(), HTTPStatus.SERVICE_UNAVAILABLE)


@contextmanager
def answering(pages: Mapping[str, Mapping[str, Page]]) -> Generator[None]:
    """Serve pages by address and path, for as long as the block lasts. Nothing is served on an empty address.

    The pages are asked for in another thread.

    Raises:
        ConfigError: an address is none, or cannot be listened on.
    """
    served = {address: found for address, found in pages.items() if address}
    if not served:
        yield
        return
    loop, servers = event_loop.EventLoop(), list[asyncio.Server]()
    thread = threading.Thread(target=_run, args=(loop, servers), name="monitoring", daemon=True)
    thread.start()
    try:
        for address, found in served.items():
            servers.append(asyncio.run_coroutine_threadsafe(_listen(address, found), loop).result())
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(MONITOR_PATIENCE)


def _run(loop: asyncio.AbstractEventLoop, servers: Sequence[asyncio.Server]) -> None:
    loop.run_forever()
    for server in servers:
        server.close()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


async def _listen(address: str, pages: Mapping[str, Page]) -> asyncio.Server:
    match = LISTEN_ADDRESS.fullmatch(address)
    if match is None or int(match["port"]) > LAST_PORT:
        raise ConfigError(f"'{address}' is not of the form host:port.")
    host = match["ipv6"] or match["host"] or None
    try:
        return await asyncio.start_server(partial(_serve, pages), host, int(match["port"]))
    except OSError as error:
        raise ConfigError(f"Nothing can be served on {address}: {error}") from error


async def _serve(pages: Mapping[str, Page], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request, and close its connection."""
    with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        async with asyncio.timeout(MONITOR_PATIENCE):
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(_response(pages, head.partition(b"\r\n")[0].decode("latin-1")))
            await writer.drain()
    writer.close()


def _response(pages: Mapping[str, Page], line: str) -> bytes:
    method, _, rest = line.partition(" ")
    page = pages.get(rest.partition(" ")[0].partition("?")[0])
    if method not in ("GET", "HEAD"):
        answer = Answer(b'{"detail":"Method Not Allowed"}', HTTPStatus.METHOD_NOT_ALLOWED)
    elif page is None:
        answer = Answer(b'{"detail":"Not Found"}', HTTPStatus.NOT_FOUND)
    else:
        answer = page()
    head = (
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\nContent-Type: {answer.media_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if method == "HEAD" else answer.body)
