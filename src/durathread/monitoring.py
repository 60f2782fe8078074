"""Answers those who watch a process that has no API: health checks, and scrapes of Prometheus."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TypeAlias

from durathread.errors import ConfigError

# How long a request may take to arrive, in seconds.
PATIENCE = 5.0
ADDRESS = re.compile(r"(?:\[(?P<ipv6>[^\]]+)\]|(?P<host>[^:\[\]]*)):(?P<port>\d{1,5})")


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


@asynccontextmanager
async def answering(pages: Mapping[str, Mapping[str, Page]]) -> AsyncGenerator[None]:
    """Serve pages by address and path, for as long as the block lasts. Nothing is served on an empty address.

    Raises:
        ConfigError: an address is none, or cannot be listened on.
    """
    async with AsyncExitStack() as stack:
        for address, found in pages.items():
            if address:
                await stack.enter_async_context(await _listen(address, found))
        yield


async def _listen(address: str, pages: Mapping[str, Page]) -> asyncio.Server:
    match = ADDRESS.fullmatch(address)
    if match is None:
        raise ConfigError(f"'{address}' is not of the form host:port.")
    host = match["ipv6"] or match["host"] or None
    try:
        return await asyncio.start_server(partial(_serve, pages), host, int(match["port"]))
    except (OSError, OverflowError) as error:
        raise ConfigError(f"Nothing can be served on {address}: {error}") from error


async def _serve(pages: Mapping[str, Page], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request, and close its connection."""
    with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        async with asyncio.timeout(PATIENCE):
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
