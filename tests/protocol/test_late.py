"""Who comes to a run of v1 that nobody watched, at whatever moment: the right messages in the end, each once and whole."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient

from tests.protocol.support import PATIENCE, data_of, kinds, watching
from tests.stack import Stack

WORDS = [f"w{number}" for number in range(30)]
QUESTION: Any = {"messages": [{"role": "user", "content": f"slowly {' '.join(WORDS)}"}]}
# After how many chunks of v1 somebody comes: before the first word, at it, in the midst, at the end, behind it.
MOMENTS = [0, 1, 2, 3, 8, 14]


async def reach(client: LangGraphClient, thread_id: str, graph: str, moment: int) -> None:
    """Start a run over v1, and wait until it has said so many words."""
    seen = 0
    async for part in client.runs.stream(
        thread_id,
        graph,
        input=QUESTION,
        stream_mode=["messages-tuple"],
        stream_subgraphs=True,
        if_not_exists="create",
    ):
        seen += part.event.startswith("messages")
        if seen >= moment:
            return


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("graph", ["chat", "stages"])
async def test_the_sdk_assembles_every_message_of_the_step_it_comes_in(
    client: LangGraphClient, thread_id: str, graph: str, moment: int
) -> None:
    await reach(client, thread_id, graph, moment)
    opened: Any = client.threads.stream(thread_id, assistant_id=graph)
    async with opened as thread, asyncio.timeout(PATIENCE):
        messages = [message async for message in thread.messages]
        texts = [str(await message.text) for message in messages]
        output = await thread.output
    held = [message["content"] for message in output["messages"]]
    assert held[-1].split() == ["slowly", *WORDS]
    # None twice, none that the state has not, and none without its beginning.
    assert len({message.message_id for message in messages}) == len(messages)
    assert set(texts) <= set(held)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_nothing_is_missing_from_the_first_word_to_the_state(
    server: Stack, client: LangGraphClient, thread_id: str, moment: int
) -> None:
    await reach(client, thread_id, "chat", moment)
    async with watching(server.url, thread_id) as watch:
        events = await watch.ended()
    assert kinds(events)[0] == "lifecycle running"
    assert kinds(events)[-1] == "lifecycle completed"
    # The state at the end, whatever modes the run has.
    assert data_of(events, "values")[-1]["messages"][-1]["content"].split() == ["slowly", *WORDS]
    data = data_of(events, "messages")
    starts = [item["id"] for item in data if item["event"] == "message-start"]
    assert len(starts) == len(set(starts))
    if starts:
        finished = next(item for item in data if item["event"] == "content-block-finish")
        assert finished["content"]["text"].split() == ["slowly", *WORDS]


@pytest.mark.parametrize("modes", [["values"], ["updates"], ["custom"]])
async def test_a_message_that_was_not_streamed_for_want_of_a_mode_comes_whole(
    server: Stack, client: LangGraphClient, thread_id: str, tmp_path: Path, modes: Any
) -> None:
    question: Any = {"messages": [{"role": "user", "content": str(tmp_path / "go")}]}
    async for part in client.runs.stream(
        thread_id, "held", input=question, stream_mode=[*modes, "custom"], if_not_exists="create"
    ):
        if part.event == "custom":
            break
    async with watching(server.url, thread_id) as watch:
        await watch.until(lambda event: event["method"] == "values")
        assert kinds(watch.events) == ["lifecycle running", "values"]
        assert [message["type"] for message in data_of(watch.events, "values")[0]["messages"]] == ["human"]
        (tmp_path / "go").touch()
        events = await watch.ended()
    (started, *_, finished) = data_of(events, "messages")
    assert (started["event"], started["role"], finished["event"]) == ("message-start", "ai", "message-finish")
    assert data_of(events, "messages")[2]["delta"]["text"] == "at last"
    assert data_of(events, "values")[-1]["messages"][-1] == {
        **data_of(events, "values")[-1]["messages"][-1],
        "id": started["id"],
        "content": "at last",
    }


async def test_two_who_come_at_different_moments_see_the_same(
    client: LangGraphClient, server: Stack, thread_id: str
) -> None:
    await reach(client, thread_id, "stages", 4)
    async with watching(server.url, thread_id) as early:
        await early.until(lambda event: event["params"]["data"].get("event") == "content-block-delta")
        async with watching(server.url, thread_id) as late:
            assert await late.ended() == await early.ended()
