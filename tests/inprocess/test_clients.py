"""Clients without a URL: the SDK's own, on an app in this process, from any event loop."""

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

import httpx
import langgraph_sdk._async.client as sdk
import pytest
from langgraph_sdk import get_client
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from durathread.inprocess import clients
from durathread.inprocess.cross_loop import Bridge
from tests.eventually import eventually

mark: ContextVar[str] = ContextVar("mark", default="none")


class App:
    """An app that says where it runs, and streams as it is told to."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()
        self.left = asyncio.Event()
        self.sent = 0

    async def where(self, request: Request) -> Response:
        body = (await request.body()).decode()
        return JSONResponse({"thread": threading.get_ident(), "mark": mark.get(), "body": body})

    async def stream(self, _: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            try:
                self.entered.set()
                yield b"first"
                await self.go_on.wait()
                yield b"second"
            finally:
                self.left.set()

        return StreamingResponse(parts())

    async def flood(self, _: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            while self.sent < 1000:
                self.sent += 1
                yield b"part"

        return StreamingResponse(parts())

    async def fail(self, _: Request) -> Response:
        raise ZeroDivisionError

    async def stop(self, _: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield b"first"
            raise ZeroDivisionError

        return StreamingResponse(parts())

    @property
    def asgi(self) -> Starlette:
        paths = {
            "/where": self.where,
            "/stream": self.stream,
            "/flood": self.flood,
            "/fail": self.fail,
            "/stop": self.stop,
        }
        return Starlette(routes=[Route(path, handle, methods=["GET", "POST"]) for path, handle in paths.items()])


@pytest.fixture
async def app() -> AsyncIterator[App]:
    """An app that clients without a URL speak to."""
    found = App()
    clients.install()
    bridge = Bridge(found.asgi)
    clients.serve(bridge)
    yield found
    clients.withdraw(bridge)


@pytest.fixture
def elsewhere() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def client() -> httpx.AsyncClient:
    """Make the SDK's client without a URL, and take out httpx's."""
    return get_client().http.client


async def on(loop: asyncio.AbstractEventLoop, work: Any) -> Any:
    """Await something on another loop."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))


def test_the_sdk_has_the_names_that_we_set() -> None:
    source = inspect.getsource(sdk.get_client)
    for name in ("get_asgi_transport()", "_registered_transports.append(", clients.DEFER):
        assert name in source


async def test_a_client_that_is_made_in_a_running_server_finds_it_and_leaves_nothing_behind(app: App) -> None:
    registered: Any = vars(sdk)["_registered_transports"]
    before = len(registered)
    answers = [(await client().post("/where", content=b"hello")).json() for _ in range(3)]
    assert [answer["body"] for answer in answers] == ["hello"] * 3
    assert len(registered) == before


async def test_the_app_runs_on_its_own_loop_and_in_its_own_context(
    app: App, elsewhere: asyncio.AbstractEventLoop
) -> None:
    async def ask() -> Any:
        mark.set("the caller's")
        return (await client().get("/where")).json()

    for answer in (await on(elsewhere, ask()), await ask()):
        assert answer == {"thread": threading.get_ident(), "mark": "none", "body": ""}


async def test_a_response_begins_before_it_is_complete(app: App, elsewhere: asyncio.AbstractEventLoop) -> None:
    async def read() -> list[bytes]:
        seen = list[bytes]()
        async with client().stream("GET", "/stream") as response:
            async for part in response.aiter_raw():
                seen.append(part)
                app_loop.call_soon_threadsafe(app.go_on.set)
        return seen

    app_loop = asyncio.get_running_loop()
    # The second part is sent only when the first was read.
    assert await on(elsewhere, read()) == [b"first", b"second"]
    app.go_on.clear()
    assert await read() == [b"first", b"second"]


async def test_an_app_is_told_when_its_reader_hangs_up(app: App, elsewhere: asyncio.AbstractEventLoop) -> None:
    async def hang_up() -> None:
        async with client().stream("GET", "/stream") as response:
            await anext(response.aiter_raw())

    await on(elsewhere, hang_up())
    async with asyncio.timeout(30):
        await app.left.wait()


async def test_an_app_is_told_when_its_caller_is_cancelled(app: App, elsewhere: asyncio.AbstractEventLoop) -> None:
    async def wait() -> None:
        async with client().stream("GET", "/stream") as response:
            await response.aread()

    waiting = asyncio.run_coroutine_threadsafe(wait(), elsewhere)

    async with asyncio.timeout(30):
        await app.entered.wait()
        waiting.cancel()
        await app.left.wait()


async def test_an_app_waits_for_a_slow_reader(app: App) -> None:
    async with client().stream("GET", "/flood") as response:
        parts = response.aiter_raw()
        await anext(parts)

        async def stands_still() -> bool:
            before = app.sent
            for _ in range(100):
                await asyncio.sleep(0)
            return app.sent == before

        await eventually(stands_still)
        assert app.sent <= 3 * clients.AHEAD
        rest = [part async for part in parts]
    assert len(rest) == 999


async def test_a_bug_of_the_app_is_an_answer(app: App) -> None:
    assert (await client().get("/fail")).status_code == 500


async def test_a_response_that_is_cut_is_not_taken_for_complete(app: App) -> None:
    async with client().stream("GET", "/stop") as response:
        parts = response.aiter_raw()
        assert await anext(parts) == b"first"
        with pytest.raises(httpx.ReadError):
            await anext(parts)


async def test_without_a_server_a_client_is_told_so() -> None:
    clients.install()
    with pytest.raises(httpx.ConnectError, match="no server in this process"):
        await client().get("/where")
