"""A receiver of webhooks, which notes what it is sent and answers as it is told."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import uvicorn
from starlette.requests import Request
from starlette.responses import Response

from tests.eventually import eventually
from tests.stack import free_port


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """What the body says."""
        return orjson.loads(self.body)


@dataclass
class Receiver:
    """Answers 200, or what has been put into `answers` for a path: a status with headers each, or None to hang."""

    port: int = field(default_factory=free_port)
    received: list[Received] = field(default_factory=list[Received])
    answers: dict[str, list[tuple[int, dict[str, str]] | None]] = field(
        default_factory=dict[str, "list[tuple[int, dict[str, str]] | None]"]
    )
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str) -> str:
        """Name a path of it."""
        return f"http://127.0.0.1:{self.port}{path}"

    def at(self, path: str) -> list[Received]:
        """List what has come to a path."""
        return [each for each in self.received if each.path == path]

    async def got(self, path: str, times: int = 1) -> list[Received]:
        """Wait until so many requests have come to a path."""

        async def enough() -> list[Received] | None:
            found = self.at(path)
            return found if len(found) >= times else None

        found = await eventually(enough, what=f"{times} requests to {path}")
        assert found is not None
        return found

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        path = request.url.path
        self.received.append(Received(path, dict(request.headers), await request.body()))
        scripted = self.answers.get(path)
        answer = scripted.pop(0) if scripted else (200, dict[str, str]())
        if answer is None:
            await self.released.wait()
            answer = 200, dict[str, str]()
        await Response(status_code=answer[0], headers=answer[1])(scope, receive, send)


@asynccontextmanager
async def serving(config: uvicorn.Config) -> AsyncGenerator[None]:
    """Serve an app beside the tests for as long as the block lasts."""
    server = uvicorn.Server(config)
    with contextlib.suppress(AttributeError):
        # The test runner's signals are its own.
        server.capture_signals = contextlib.nullcontext  # pyright: ignore[reportAttributeAccessIssue]
    task = asyncio.create_task(server.serve())

    async def started() -> bool:
        return server.started

    await eventually(started)
    try:
        yield
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def receiving(**options: Any) -> AsyncGenerator[Receiver]:
    """Run a receiver for as long as the block lasts; `options` are uvicorn's."""
    receiver = Receiver()
    config = uvicorn.Config(
        receiver, host="127.0.0.1", port=receiver.port, log_level="error", lifespan="off", ws="none", **options
    )
    async with serving(config):
        try:
            yield receiver
        finally:
            receiver.released.set()
