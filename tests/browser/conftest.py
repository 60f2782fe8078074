"""The built chat page in Chromium, in front of a server with its agent."""

import shutil
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from playwright.async_api import Browser, async_playwright, expect

from durathread.embedded.engines import Engines
from tests.browser.page import ChatPage
from tests.conftest import EXAMPLES, environment_of
from tests.stack import Stack, running

CHAT = EXAMPLES / "chat"
# Nothing outside this machine is asked for anything.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
MILLISECONDS = 30_000
# A story of a hundred and eighty tokens in about three seconds.
SPEED = "0.4"

expect.set_options(timeout=MILLISECONDS)


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and says nothing of it."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def page_url() -> Iterator[str]:
    """Serve the built page."""
    built = CHAT / "dist"
    assert (built / "index.html").exists(), "make test-browser builds the page"
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(built))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
async def bookshop(
    engine_set: Engines, database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    """A server with the example's agent."""
    assert database
    environment = environment_of(engine_set, queue="bookshop", config=CHAT / "langgraph.json")
    async with running({**environment, "CHAT_SPEED": SPEED}, tmp_path_factory.mktemp("bookshop")) as stack:
        yield stack


@pytest.fixture(scope="session")
async def api(bookshop: Stack) -> AsyncIterator[LangGraphClient]:
    """The SDK's client of the server."""
    async with get_client(url=bookshop.url) as client:
        yield client


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium, without a window."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert found, "Chromium is needed: apt-get install chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        await browser.close()


@pytest.fixture
async def chat(
    browser: Browser, page_url: str, bookshop: Stack, request: pytest.FixtureRequest
) -> AsyncIterator[ChatPage]:
    """The page of a person with a desktop."""
    async with opened(browser, f"{page_url}?api={bookshop.url}") as page:
        yield page
        await page.shoot(request.node.name.removeprefix("test_"))


@asynccontextmanager
async def opened(browser: Browser, url: str, **options: Any) -> AsyncGenerator[ChatPage]:
    """Open the page in a browser that knows nothing of it, and see that nothing goes wrong in it."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800}, **options)
    page = ChatPage(await context.new_page())
    await page.open(url)
    yield page
    assert page.errors == []
    await context.close()
