"""What clients send: large, many, deep."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest

from durathread.api.http.bodies import read_json
from durathread.encode import loads
from tests.stack import Stack

MB = 1024 * 1024
# No answer that waits for nobody takes this long, in seconds; 30 MB of empty lists took 6 to be read.
AT_ONCE = 2.0


@pytest.fixture
async def http(server: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the session's server."""
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        yield client


async def holds_nobody_up(http: httpx.AsyncClient, request: "asyncio.Task[httpx.Response]") -> bool:
    """Ask for `/ok` until a request is answered; say whether none of the answers took most of that time."""
    longest, began = 0.0, time.monotonic()
    while not request.done():
        begun = time.monotonic()
        assert (await http.get("/ok")).status_code == 200
        longest = max(longest, time.monotonic() - begun)
    return longest < max(AT_ONCE, (time.monotonic() - began) / 2)


async def test_a_body_of_millions_of_parts_is_refused_and_holds_nobody_up(http: httpx.AsyncClient) -> None:
    body = b'{"assistant_id": "agent", "input": [' + b"[]," * (30 * MB // 3) + b"[]]}"
    asked = asyncio.create_task(http.post(f"/threads/{uuid4()}/runs", content=body))
    assert await holds_nobody_up(http, asked)
    refused = await asked
    assert (refused.status_code, "too many parts" in refused.json()["detail"]) == (422, True)


async def test_brackets_in_texts_are_no_parts(http: httpx.AsyncClient) -> None:
    thread = await http.post("/threads", json={"metadata": {"text": '["{' * 400_000}})
    assert thread.status_code == 200
    assert thread.json()["metadata"]["text"] == '["{' * 400_000


async def test_a_large_body_says_what_a_small_one_does(http: httpx.AsyncClient) -> None:
    metadata: dict[str, Any] = {"rows": [{"n": n, "text": 'é \\ " \n'} for n in range(60_000)]}
    body = orjson.dumps({"metadata": metadata})
    assert len(body) > MB
    asked = asyncio.create_task(http.post("/threads", content=body))
    assert await holds_nobody_up(http, asked)
    assert (await asked).json()["metadata"] == metadata


@pytest.mark.parametrize(
    "text",
    [
        "1180591620717411303424",
        "-9999999999999999999",
        "1234567890123456789",
        "1e400",
        r'"\ud800"',
        "0.1234567890123456789",
        '{"a": 1, "a": 2}',
    ],
)
async def test_a_text_means_the_same_whatever_its_size(text: str) -> None:
    small = f'[{text}, ""]'.encode()
    large = f'[{text}, "{"x" * MB}"]'.encode()
    # 1.0 is equal to 1.
    assert repr((await read_json(large))[0]) == repr((await read_json(small))[0])


@pytest.mark.parametrize("text", ["1180591620717411303424", "NaN", "[-Infinity, 1180591620717411303424]", r'"\ud800"'])
async def test_a_command_means_the_same_whatever_its_size(text: str) -> None:
    async def outcome(padding: str) -> Any:
        try:
            return (await read_json(f'[{text}, "{padding}"]'.encode(), small=loads))[0]
        except json.JSONDecodeError:
            return "refused"

    assert await outcome("x" * MB) == await outcome("")


@pytest.mark.parametrize("depth", [201, 600, 1020, 100_000, 5 * MB])
@pytest.mark.parametrize("path", ["/threads", "/runs/batch", "/store/items/search"])
async def test_what_is_nested_too_deep_is_refused(http: httpx.AsyncClient, depth: int, path: str) -> None:
    for body in (b'{"metadata": ' + b"[" * depth + b"]" * depth + b"}", b"[" * depth):
        assert (await http.post(path, content=body)).status_code == 422


async def test_what_is_nested_as_deep_as_it_may_comes_back(http: httpx.AsyncClient) -> None:
    deep: Any = []
    for _ in range(190):
        deep = [deep]
    assert (await http.post("/threads", json={"metadata": {"deep": deep}})).json()["metadata"] == {"deep": deep}


async def test_a_body_above_the_limit_is_refused(http: httpx.AsyncClient) -> None:
    assert (await http.post("/threads", content=b" " * (32 * MB + 1))).status_code == 413


async def test_lists_have_an_end(http: httpx.AsyncClient) -> None:
    ids = [str(uuid4()) for _ in range(1001)]
    refused: list[tuple[str, Any]] = [
        ("/threads/prune", {"thread_ids": ids}),
        ("/runs/cancel", {"thread_id": ids[0], "run_ids": ids}),
        ("/runs/batch", [{"assistant_id": "agent"}] * 1001),
    ]
    for path, body in refused:
        assert (await http.post(path, json=body)).status_code == 422
    assert (await http.post("/threads/prune", json={"thread_ids": ids[:1000]})).json() == {"pruned_count": 0}


async def test_a_command_that_is_nested_too_deep_is_malformed(http: httpx.AsyncClient) -> None:
    body = b'{"id": 1, "method": "run.start", "params": {"input": ' + b"[" * 300 + b"]" * 300 + b"}}"
    answer = await http.post(f"/threads/{uuid4()}/commands", content=body)
    assert (answer.status_code, answer.json()["type"]) == (400, "error")
