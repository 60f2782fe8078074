"""A worker that dies while a model speaks: nobody reads the same words twice."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_client

from durathread.embedded.engines import Engines
from tests.conftest import environment_of
from tests.protocol.support import data_of, is_root, kinds, run_start, watching
from tests.stack import Stack, running

ANSWER = "0 1 2 3 4 5 6 7 8 9 "
# A crash costs a heartbeat timeout, and the start of a worker.
LONG = 90.0


@pytest.fixture
async def mortal(engine_set: Engines, database: str, tmp_path: Path) -> AsyncIterator[Stack]:
    """A server of this test's own, with two workers: one dies."""
    assert database
    async with running(environment_of(engine_set, queue=f"mortal-{tmp_path.name}"), tmp_path, workers=2) as stack:
        yield stack


async def test_the_stream_says_which_message_to_drop(mortal: Stack, thread_id: str, tmp_path: Path) -> None:
    question = {"messages": [{"role": "user", "content": str(tmp_path / "died")}]}
    async with watching(mortal.url, thread_id, patience=LONG) as watch:
        await run_start(mortal.url, thread_id, "fragile", input=question)
        events = await watch.ended()
    assert kinds(events)[-1] == "lifecycle completed"
    assert sum(is_root(event, "running") for event in events) == 1
    assert len({event["event_id"] for event in events}) == len(events)
    messages: dict[str, list[Any]] = {}
    for data in data_of(events, "messages"):
        messages.setdefault(data["id"], []).append(data)
    dropped, answer = messages.values()
    assert dropped[-2]["content"] == {"type": "text", "text": ""}
    assert (dropped[-1]["event"], dropped[-1]["code"]) == ("error", "superseded")
    assert answer[-2]["content"]["text"] == ANSWER
    # Before a word of the new one.
    order = [event["params"]["data"] for event in events]
    assert order.index(dropped[-1]) < order.index(answer[0])


async def test_the_sdk_assembles_the_answer_once(mortal: Stack, thread_id: str, tmp_path: Path) -> None:
    question: Any = {"messages": [{"role": "user", "content": str(tmp_path / "died")}]}
    async with get_client(url=mortal.url) as client:
        opened: Any = client.threads.stream(thread_id, assistant_id="fragile")
        async with opened as thread, asyncio.timeout(LONG):
            await thread.run.start(input=question)
            messages = [message async for message in thread.messages]
            dropped, answer = messages
            with pytest.raises(RuntimeError, match="worker died"):
                await dropped.text
            output = await thread.output
            assert str(await answer.text) == output["messages"][-1]["content"] == ANSWER
