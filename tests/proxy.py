"""Proxies that cut, slow down or measure the connections they carry."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass
class Proxy:
    """An address that leads to a server, and how many connections it has cut."""

    url: str
    cuts: int = 0


@asynccontextmanager
async def cutting(url: str, allowances: Iterator[int]) -> AsyncGenerator[Proxy]:
    """Carry connections to a server; of each, cut the answers after as many bytes as is said next. Zero: never."""
    proxy = Proxy("")

    async def answer(answers: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        proxy.cuts += await _pass_on(answers, client, next(allowances))

    async with _carrying(url, answer) as port:
        proxy.url = f"http://127.0.0.1:{port}"
        yield proxy


@asynccontextmanager
async def slow(url: str, rate: int) -> AsyncGenerator[str]:
    """Carry connections to a server, over which so many bytes a second pass in each direction."""
    target = urlsplit(url)

    async def crawl(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                await asyncio.sleep(len(data) / rate)
                sink.write(data)
                await sink.drain()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, there = await asyncio.open_connection(target.hostname, target.port)
        back = asyncio.create_task(crawl(answers, writer))
        await crawl(reader, there)
        back.cancel()
        await asyncio.gather(back, return_exceptions=True)
        for end in (writer, there):
            end.transport.abort()

    listening = await asyncio.start_server(carry, "127.0.0.1", 0)
    try:
        yield _at(url, listening.sockets[0].getsockname()[1])
    finally:
        listening.close()


@dataclass
class Meter:
    """An address that leads to a server, and how many bytes that has answered."""

    url: str
    answered: int = 0


@asynccontextmanager
async def metered(url: str) -> AsyncGenerator[Meter]:
    """Carry connections to a server, and count what it answers."""
    meter = Meter("")

    async def answer(answers: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await answers.read(65536):
                meter.answered += len(data)
                client.write(data)
                await client.drain()

    async with _carrying(url, answer) as port:
        meter.url = _at(url, port)
        yield meter


@asynccontextmanager
async def _carrying(
    url: str, answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
) -> AsyncGenerator[int]:
    """Pass on what clients say to a server, and its answers by `answer`; yield the port."""
    target = urlsplit(url)
    carrying = set[asyncio.Task[None]]()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, there = await asyncio.open_connection(target.hostname, target.port)
        forth = asyncio.create_task(_pass_on(reader, there, 0))
        try:
            await answer(answers, writer)
        finally:
            forth.cancel()
            await asyncio.gather(forth, return_exceptions=True)
            # Without a farewell, as when a network goes away.
            for end in (writer, there):
                end.transport.abort()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(carry(reader, writer))
        carrying.add(task)
        task.add_done_callback(carrying.discard)

    listening = await asyncio.start_server(begin, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        for task in list(carrying):
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)


def _at(url: str, port: int) -> str:
    """Lead a URL to a port of this machine."""
    target = urlsplit(url)
    credentials, _, _ = target.netloc.rpartition("@")
    return target._replace(netloc=f"{credentials}@127.0.0.1:{port}").geturl()


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter, allowance: int) -> bool:
    """Copy bytes until there are no more, or as many as are allowed; return whether more would have come."""
    passed = 0
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            part = data[: allowance - passed] if allowance else data
            sink.write(part)
            await sink.drain()
            passed += len(part)
            if allowance and passed >= allowance:
                return True
    return False
