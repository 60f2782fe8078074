"""The weather agent works in-process, and its scripted model streams like a real one."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage

WEATHER = Path(__file__).parents[2] / "examples" / "weather"


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Import the example's graph as a server does: from its own folder, without delays or keys."""
    monkeypatch.setenv("WEATHER_SPEED", "0")
    for key in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.syspath_prepend(str(WEATHER))
    # Other tests load graphs of these names into this process.
    for name in ("agent", "scripted"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import agent  # type: ignore[import-not-found] # noqa: PLC0415

    yield agent.graph
    for name in ("agent", "scripted"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("question", "city", "fact"),
    [
        ("what's the weather in sf?", "San Francisco", "High 64F"),
        ("What is the weather in New York today?", "New York City", "High 88F"),
        ("weather in Oslo", "Oslo", "high 70F"),
    ],
)
async def test_a_question_is_answered_with_what_the_search_found(
    graph: Any, question: str, city: str, fact: str
) -> None:
    result = await graph.ainvoke({"messages": [("human", question)]})
    _, call, found, reply = result["messages"]
    assert isinstance(call, AIMessage)
    assert call.tool_calls[0]["args"] == {"query": f"weather in {city}"}
    assert isinstance(found, ToolMessage)
    assert fact in str(found.content)
    assert city in reply.content
    assert fact in reply.content


async def test_a_question_without_a_city_is_answered_without_a_search(graph: Any) -> None:
    result = await graph.ainvoke({"messages": [("human", "hello")]})
    assert [m.type for m in result["messages"]] == ["human", "ai"]


async def test_the_chunks_of_a_turn_share_an_id_and_add_up_to_its_message(graph: Any) -> None:
    chunks: dict[str, AIMessageChunk] = {}
    messages: list[Any] = []
    async for mode, event in graph.astream(
        {"messages": [("human", "what's the weather in sf?")]}, stream_mode=["messages", "values"]
    ):
        if mode == "values":
            messages = event["messages"]
        elif isinstance(event[0], AIMessageChunk) and event[0].id:
            chunk = event[0]
            chunks[chunk.id] = chunks[chunk.id] + chunk if chunk.id in chunks else chunk
    turns = [m for m in messages if m.type == "ai"]
    assert [m.id for m in turns] == list(chunks)
    assert [(m.content, m.tool_calls) for m in turns] == [(c.content, c.tool_calls) for c in chunks.values()]
