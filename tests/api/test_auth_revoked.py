"""What a request is told whose sender is refused while it is answered: never that this was all."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langgraph_sdk import Auth
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from durathread.api.auth.authentication import Authentication
from durathread.api.auth.handlers import Authority
from durathread.api.http.middleware import Stopping
from durathread.api.streaming.sse import event_stream, padded_json
from durathread.streams.events import Event

RECHECK = 0.01


class Door:
    """Knows who somebody is until it has been asked so often, and refuses them then."""

    def __init__(self, status: int = 401, *, welcome: int = 1) -> None:
        self.auth = Auth()
        self.asked = 0

        @self.auth.authenticate
        async def authenticate() -> str:  # pyright: ignore[reportUnusedFunction]
            self.asked += 1
            if self.asked > welcome:
                raise Auth.exceptions.HTTPException(status_code=status, detail="gone")
            return "somebody"


async def sent_by(app: ASGIApp, door: Door, *, path: str = "/runs/wait") -> list[Message]:
    """Return what a request is answered whose client stays."""
    sent = list[Message]()
    scope: Scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b""}
    scope["asgi"] = {"version": "3.0", "spec_version": "2.3"}

    async def receive() -> Message:
        return await asyncio.Future[Message]()

    async def send(message: Message) -> None:
        sent.append(message)

    layers = Authentication(Stopping(app), authority=Authority(door.auth), recheck=RECHECK)
    async with asyncio.timeout(60):
        await layers(scope, receive, send)
    return sent


def body_of(sent: list[Message]) -> bytes:
    """Join the parts of an answer, which ends once."""
    parts = [message for message in sent if message["type"] == "http.response.body"]
    assert [part.get("more_body", False) for part in parts] == [*[True] * (len(parts) - 1), False]
    return b"".join(part.get("body", b"") for part in parts)


async def endless() -> AsyncIterator[Event]:
    """Say one thing."""
    yield Event("1-0", "values", b"{}")
    await asyncio.Future[None]()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/runs/stream", {"error": "Unauthorized", "message": "Unauthorized"}),
        (
            "/threads/x/stream/events",
            {"type": "error", "id": None, "error": "permission_denied", "message": "Unauthorized"},
        ),
    ],
)
async def test_events_end_with_an_error_and_nobody_has_left(path: str, said: dict[str, Any]) -> None:
    left = list[str]()
    answer = event_stream(endless(), with_ids=False, headers={}, gone=lambda: left.append("the client"))
    whole = body_of(await sent_by(answer, Door(), path=path))
    first, last, rest = whole.split(b"\r\n\r\n")
    assert (first, rest) == (b"event: values\r\ndata: {}", b"")
    name, _, data = last.partition(b"\r\n")
    assert (name, json.loads(data.removeprefix(b"data: "))) == (b"event: error", said)
    assert left == []


async def test_an_outcome_that_is_waited_for_is_an_error_and_nobody_has_left() -> None:
    left = list[str]()
    waiting = asyncio.Future[None]()
    answer = padded_json(waiting, headers={}, gone=lambda: left.append("the client"))
    said = json.loads(body_of(await sent_by(answer, Door())))
    assert said == {"__error__": {"error": "Unauthorized", "message": "Unauthorized"}}
    assert left == []


async def test_an_answer_that_has_not_begun_is_a_refusal() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Future[None]()

    sent = await sent_by(slow, Door(), path="/threads/x/state")
    assert sent[0]["status"] == 401
    assert json.loads(body_of(sent)) == {"detail": "Unauthorized"}


async def test_json_that_has_begun_is_not_added_to() -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b'{"a": 1}'
        await asyncio.Future[None]()

    answer = StreamingResponse(parts(), media_type="application/json")
    assert json.loads(body_of(await sent_by(answer, Door()))) == {"a": 1}


async def test_what_is_done_after_an_answer_goes_on() -> None:
    done = asyncio.Event()
    door = Door()

    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse({})(scope, receive, send)
        await asyncio.sleep(RECHECK * 5)
        done.set()

    assert body_of(await sent_by(answering, door)) == b"{}"
    assert done.is_set()
    assert door.asked == 1


async def test_a_client_that_leaves_is_noticed() -> None:
    left = asyncio.Event()
    answer = event_stream(endless(), with_ids=False, headers={}, gone=left.set)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        pass

    await answer({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send)
    assert left.is_set()


@pytest.mark.parametrize(("status", "refused"), [(400, True), (404, True), (408, False), (429, False), (503, False)])
async def test_a_handler_refuses_with_what_says_that_it_is_the_senders_fault(status: int, refused: bool) -> None:
    door = Door(status)

    async def lasting(scope: Scope, receive: Receive, send: Send) -> None:
        while door.asked < 5:  # noqa: ASYNC110, it is the clock that asks
            await asyncio.sleep(RECHECK)
        await JSONResponse({})(scope, receive, send)

    assert (await sent_by(lasting, door))[0]["status"] == (401 if refused else 200)
