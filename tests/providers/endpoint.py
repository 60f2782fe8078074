"""A scripted endpoint in the place of OpenAI and of Anthropic, that real clients talk to."""

import asyncio
import json
import re
import threading
import time
import zlib
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.eventually import eventually
from tests.providers import conversation, encoding
from tests.providers.conversation import Asked, Reply, Script, echo
from tests.providers.encoding import PAUSE, Event
from tests.stack import free_port

Read = Callable[[conversation.Body], Asked]
Whole = Callable[[Reply], Any]
Parts = Callable[[Reply], Iterator[Event]]

# Of the vectors that texts are given.
DIMENSIONS = 128


class Gate:
    """Keeps some answers back until it is opened; those that are streamed, after their first word."""

    def __init__(self, holds: Callable[[Asked], bool], loop: asyncio.AbstractEventLoop) -> None:
        """Keep back what answers a request that `holds` finds."""
        self.holds = holds
        self.held: list[Asked] = []
        self._loop = loop
        self._open = asyncio.Event()

    def open(self) -> None:
        """Let all pass, from now on."""
        self._loop.call_soon_threadsafe(self._open.set)

    async def passed(self, asked: Asked) -> None:
        """Wait until it is open."""
        self.held.append(asked)
        await self._open.wait()

    async def entered(self, times: int = 1) -> None:
        """Wait until that many answers have been held."""

        async def there() -> bool:
            return len(self.held) >= times

        await eventually(there, timeout=60, what=f"{times} answers are held")


class Endpoint:
    """Answers as a script says, and remembers what it was asked."""

    def __init__(self, script: Script) -> None:
        """Answer as `script` says."""
        self.port = free_port()
        self.asked: list[Asked] = []
        self.embedded: list[str] = []
        self.refused = set[str]()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._script = script
        self._gates: list[Gate] = []
        self.app = Starlette(
            routes=[
                self._route(
                    "/v1/chat/completions",
                    conversation.of_completions,
                    whole=encoding.completion,
                    parts=encoding.completion_stream,
                ),
                self._route(
                    "/v1/responses",
                    conversation.of_responses,
                    whole=encoding.response,
                    parts=encoding.response_stream,
                ),
                self._route(
                    "/v1/messages",
                    conversation.of_anthropic,
                    whole=encoding.message,
                    parts=encoding.message_stream,
                ),
                Route("/v1/embeddings", self._embed, methods=["POST"]),
            ]
        )

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def holding(self, holds: Callable[[Asked], bool]) -> Generator[Gate]:
        """Keep answers back until the block ends, or the gate is opened."""
        assert self.loop
        gate = Gate(holds, self.loop)
        self._gates.append(gate)
        try:
            yield gate
        finally:
            self._gates.remove(gate)
            gate.open()

    def _route(self, path: str, read: Read, *, whole: Whole, parts: Parts) -> Route:
        async def answer(request: Request) -> Response:
            body = await request.json()
            asked = read(body)
            self.asked.append(asked)
            if problem := asked.problem():
                return refusal(problem)
            reply = self._script(asked)
            gates = [gate for gate in self._gates if gate.holds(asked)]
            if body.get("stream"):
                return sent(parts(reply), gates, asked)
            for gate in gates:
                await gate.passed(asked)
            return JSONResponse(whole(reply))

        return Route(path, answer, methods=["POST"])

    async def _embed(self, request: Request) -> Response:
        body = await request.json()
        texts: list[str] = [body["input"]] if isinstance(body["input"], str) else body["input"]
        self.embedded += texts
        if refused := [word for word in self.refused if any(word in text for text in texts)]:
            return refusal(f"cannot embed {refused[0]}")
        data = [
            {"object": "embedding", "index": number, "embedding": vector(text)} for number, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return JSONResponse({"object": "list", "data": data, "model": body["model"], "usage": usage})


@contextmanager
def endpoint(script: Script = echo) -> Generator[Endpoint]:
    """Listen for as long as the block lasts. On a thread: nodes may block the loop that they are run on."""
    found = Endpoint(script)
    server = uvicorn.Server(
        uvicorn.Config(
            found.app,
            host="127.0.0.1",
            port=found.port,
            log_level="error",
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
    )

    async def serve() -> None:
        found.loop = asyncio.get_running_loop()
        await server.serve()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield found
    finally:
        server.should_exit = True
        thread.join(10)


def sent(events: Iterator[Event], gates: list[Gate], asked: Asked) -> Response:
    """Send events as both providers do."""

    async def body() -> AsyncGenerator[str]:
        for name, data in events:
            if (name, data) == PAUSE:
                for gate in gates:
                    await gate.passed(asked)
                continue
            head = f"event: {name}\n" if name else ""
            yield f"{head}data: {data if isinstance(data, str) else json.dumps(data)}\n\n"

    return StreamingResponse(body(), media_type="text/event-stream")


def refusal(problem: str) -> Response:
    """Refuse, as both providers do."""
    error = {"type": "invalid_request_error", "message": problem, "param": None, "code": None}
    return JSONResponse({"type": "error", "error": error}, status_code=400)


def vector(text: str) -> list[float]:
    """Count the words of a text: those that share words are near each other."""
    found = [0.01] * DIMENSIONS
    for word in re.findall(r"\w+", text.lower()):
        found[zlib.crc32(word.encode()) % DIMENSIONS] += 1.0
    return found
