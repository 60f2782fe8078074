"""`stream(client, )` of the Python SDK, over SSE and over a WebSocket."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import LangGraphClient

from tests.eventually import eventually
from tests.protocol.support import PATIENCE
from tests.stack import Stack

Transport = Literal["sse", "websocket"]
TRANSPORTS: list[Transport] = ["sse", "websocket"]

pytestmark = pytest.mark.parametrize("transport", TRANSPORTS)


def asked(content: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


def stream(client: LangGraphClient, *args: Any, **kwargs: Any) -> Any:
    """Open a thread's stream. Its projections are typed too loosely to be checked."""
    return client.threads.stream(*args, **kwargs)


async def collected(source: AsyncIterator[Any]) -> list[Any]:
    async with asyncio.timeout(PATIENCE):
        return [item async for item in source]


async def test_the_output_of_a_run(client: LangGraphClient, transport: Transport) -> None:
    async with stream(client, assistant_id="agent", transport=transport) as thread:
        await thread.run.start(input={"log": ["in"]})
        async with asyncio.timeout(PATIENCE):
            assert (await thread.output)["log"] == ["in", "a", "b", "c"]


async def test_values_step_by_step(client: LangGraphClient, transport: Transport, thread_id: str) -> None:
    await client.threads.create(thread_id=thread_id)
    async with stream(client, thread_id, assistant_id="agent", transport=transport) as thread:
        await thread.run.start(input={"log": ["in"]})
        logs: list[Any] = [(values or {}).get("log") for values in await collected(aiter(thread.values))]
    # The first is the state as it was found.
    assert logs[-1] == ["in", "a", "b", "c"]
    assert [len(log) for log in logs[1:]] == sorted(len(log) for log in logs[1:])


async def test_messages_token_by_token(client: LangGraphClient, transport: Transport) -> None:
    async with stream(client, assistant_id="chat", transport=transport) as thread:
        await thread.run.start(input=asked("one two three"))
        (message,) = await collected(aiter(thread.messages))
        deltas = await collected(aiter(message.text))
    assert deltas == ["one ", "two ", "three "]


async def test_reasoning_calls_and_usage(client: LangGraphClient, transport: Transport) -> None:
    async with stream(client, assistant_id="toolbox", transport=transport) as thread:
        await thread.run.start(input=asked("weather Rome"))
        async with asyncio.timeout(PATIENCE):
            messages = [message async for message in thread.messages]
            calling, answer = [await message for message in messages]
    assert calling.content_blocks[0]["reasoning"] == "Let me weather"
    assert calling.tool_calls == [{"type": "tool_call", "id": "call_1", "name": "weather", "args": {"city": "Rome"}}]
    assert calling.usage_metadata["total_tokens"] == 5
    assert answer.text == "It is sunny in Rome"
    assert [message.node for message in messages] == ["model", "model"]


async def test_a_tool_that_reports(client: LangGraphClient, transport: Transport) -> None:
    async with stream(client, assistant_id="toolbox", transport=transport) as thread:
        await thread.run.start(input=asked("weather Rome"))
        (call,) = await collected(aiter(thread.tool_calls))
        assert (call.name, call.tool_call_id, call.input) == ("weather", "call_1", {"city": "Rome"})
        assert await collected(call.deltas) == ["looking", "…"]
        assert (await call.output)["content"] == "sunny in Rome"


async def test_a_tool_that_fails(client: LangGraphClient, transport: Transport) -> None:
    async with stream(client, assistant_id="toolbox", transport=transport) as thread:
        await thread.run.start(input=asked("broken Rome"))
        (call,) = await collected(aiter(thread.tool_calls))
        with pytest.raises(RuntimeError, match="no window in Rome"):
            await call.output


async def test_a_question_and_its_answer(client: LangGraphClient, transport: Transport) -> None:
    async with stream(client, assistant_id="hitl", transport=transport) as thread:
        await thread.run.start(input={"log": ["in"]})

        async def interrupted() -> bool:
            return thread.interrupted

        await eventually(interrupted, timeout=PATIENCE)
        (question,) = thread.interrupts
        assert question["value"] == "ask?"
        await thread.run.respond("yes")
        async with asyncio.timeout(PATIENCE):
            assert (await thread.output)["log"] == ["in", "ask=yes", "after"]
        assert not thread.interrupted


async def test_a_question_in_a_subgraph(client: LangGraphClient, transport: Transport) -> None:
    async with stream(client, assistant_id="nested_hitl", transport=transport) as thread:
        await thread.run.start(input={"log": ["in"]})

        async def interrupted() -> bool:
            return thread.interrupted

        await eventually(interrupted, timeout=PATIENCE)
        assert thread.interrupts[0]["namespace"][0].startswith("sub:")
        await thread.run.respond("yes")
        async with asyncio.timeout(PATIENCE):
            assert (await thread.output)["log"][-2:] == ["inner=yes", "after"]


async def test_a_failure_is_raised_with_its_text(client: LangGraphClient, transport: Transport) -> None:
    async with stream(client, assistant_id="agent", transport=transport) as thread:
        await thread.run.start(input={"log": ["in"], "do": {"b": {"fail": "boom"}}})
        with pytest.raises(RuntimeError, match="Run errored: boom"):
            async with asyncio.timeout(PATIENCE):
                await thread.output


async def test_a_subgraph_and_its_messages(client: LangGraphClient, transport: Transport) -> None:
    async with stream(client, assistant_id="nested_chat", transport=transport) as thread:
        await thread.run.start(input=asked("one two"))
        async with asyncio.timeout(PATIENCE):
            (child,) = [child async for child in thread.subgraphs]
            assert child.graph_name == "sub"
            assert child.status == "completed"
            (inner,) = [message async for message in child.messages]
            (outer,) = [message async for message in thread.messages]
            assert str(await inner.text) == str(await outer.text) == "one two "


async def test_a_channel_of_a_graphs_own(client: LangGraphClient, transport: Transport) -> None:
    async with stream(client, assistant_id="toolbox", transport=transport) as thread:
        await thread.run.start(input=asked("weather Rome"))
        found = await collected(aiter(thread.extensions["progress"]))
    assert found == [{"name": "progress", "payload": {"asked": 1}}, {"name": "progress", "payload": {"asked": 3}}]


async def test_projections_side_by_side(client: LangGraphClient, transport: Transport) -> None:
    async with stream(client, assistant_id="toolbox", transport=transport) as thread:
        await thread.run.start(input=asked("weather Rome"))
        channels = ["values", "messages", "tool_calls", "updates", "tasks", "checkpoints", "progress"]
        found = await collected(thread.interleave_projections(channels))
    names = [name for name, _ in found]
    assert set(names) == set(channels)
    assert names.index("messages") < names.index("tool_calls")


async def test_a_second_run_on_the_same_stream(client: LangGraphClient, transport: Transport) -> None:
    async with stream(client, assistant_id="chat", transport=transport) as thread:
        for words in ("one two", "three"):
            await thread.run.start(input=asked(words))
            (message,) = await collected(aiter(thread.messages))
            assert await collected(aiter(message.text)) == [f"{word} " for word in words.split()]


async def test_a_client_that_comes_to_a_run_that_works(
    client: LangGraphClient, transport: Transport, thread_id: str
) -> None:
    async with stream(client, thread_id, assistant_id="chat", transport=transport) as first:
        await first.run.start(input=asked("slowly one two three four five six"))
        async with stream(client, thread_id, assistant_id="chat", transport=transport) as second:
            (message,) = await collected(aiter(second.messages))
            async with asyncio.timeout(PATIENCE):
                output: Any = await second.output
                text = str(await message.text)
    assert text == output["messages"][-1]["content"] == "slowly one two three four five six "


async def test_a_client_that_comes_to_a_question(client: LangGraphClient, transport: Transport, thread_id: str) -> None:
    await client.runs.wait(thread_id, "hitl", input={"log": ["in"]}, if_not_exists="create")
    async with stream(client, thread_id, assistant_id="hitl", transport=transport) as thread:

        async def interrupted() -> bool:
            return thread.interrupted

        await eventually(interrupted, timeout=PATIENCE)
        await thread.run.respond("late")
        async with asyncio.timeout(PATIENCE):
            assert (await thread.output)["log"] == ["in", "ask=late", "after"]


async def test_the_client_that_is_not_async(server: Stack, transport: Transport) -> None:
    def use() -> tuple[Any, list[str]]:
        with (
            get_sync_client(url=server.url) as client,
            client.threads.stream(assistant_id="chat", transport=transport) as thread,
        ):
            thread.run.start(input=asked("one two"))
            texts = [str(message.text) for message in thread.messages]
            return thread.output, texts

    output, texts = await asyncio.wait_for(asyncio.to_thread(use), PATIENCE)
    assert texts == ["one two "]
    assert output["messages"][-1]["content"] == "one two "
