"""Nothing that a node calls doubles, splits or loses a message: with clients of providers, and with a scripted model."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
from langchain_core.messages import AIMessage

from durathread.db.pool import Pool
from durathread.graphs.registry import Graph
from tests.providers.endpoint import endpoint as listening
from tests.served import providers
from tests.steps.stepping import Thread

# LangChain's version 3 of events is a beta; a client of a provider forgets its connections.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The method"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

WORDS = "alpha beta gamma delta"
MODELS = ("openai", "responses", "anthropic", "scripted")
WAYS = (
    "ainvoke",
    "invoke",
    "astream",
    "events_v2",
    "events_v3",
    "parts",
    "stream_v3",
    "chain",
    "batch",
    "structured",
)
CASES = [(model, way) for model in MODELS for way in WAYS if (model, way) != ("scripted", "structured")]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with listening() as found:
        yield found.url


@pytest.fixture(autouse=True)
def provider_url(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVIDER_URL", endpoint)


async def said(pool: Pool, graph: Any, model: str, way: str, *, mode: str) -> Thread:
    given = {"messages": [{"role": "user", "content": WORDS, "id": "asked"}], "model": model, "way": way}
    thread = Thread(pool)
    outcome = await thread.stepped(cast(Graph, graph), given, stream_mode=[mode], subgraphs=True, watched=True)
    assert (outcome.status, outcome.error) == ("success", None)
    thread.shown.append(("state", outcome.values["messages"]))
    return thread


def tuples(thread: Thread) -> dict[str, list[Any]]:
    """Sort chunks by their message."""
    found: dict[str, list[Any]] = {}
    for name, data in thread.shown:
        if name.partition("|")[0] == "messages" and data[0]["type"] in ("ai", "AIMessageChunk"):
            found.setdefault(data[0]["id"], []).append(data[0])
    return found


def of_protocol(thread: Thread) -> dict[str, list[Any]]:
    """Sort the protocol's events of messages by their message."""
    found: dict[str, list[Any]] = {}
    for frame in thread.frames:
        if frame["method"] == "messages":
            found.setdefault(frame["params"]["data"]["id"], []).append(frame["params"]["data"])
    return found


def text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(block.get("text", "") for block in content)


def check_frames(frames: dict[str, list[Any]], *, structured: bool) -> None:
    """Every message begins and is finished once, and its parts are what it says."""
    for events in frames.values():
        kinds = [event["event"] for event in events]
        assert (kinds[0], kinds[-1]) == ("message-start", "message-finish"), kinds
        assert (kinds.count("message-start"), kinds.count("message-finish")) == (1, 1)
        deltas = [event["delta"] for event in events if event["event"] == "content-block-delta"]
        blocks = [event["content"] for event in events if event["event"] == "content-block-finish"]
        if structured:
            assert [block["args"] for block in blocks if block["type"] == "tool_call"] == [{"text": f"{WORDS} "}]
        else:
            assert "".join(delta["text"] for delta in deltas) == f"{WORDS} "
            assert "".join(block["text"] for block in blocks if block["type"] == "text") == f"{WORDS} "


@pytest.mark.parametrize(("model", "way"), CASES)
async def test_each_answer_is_one_message(pool: Pool, model: str, way: str) -> None:
    thread = await said(pool, providers.speaks, model, way, mode="messages-tuple")
    state = [message for message in thread.shown[-1][1] if isinstance(message, AIMessage)]
    chunks, frames = tuples(thread), of_protocol(thread)
    ids = {message.id for message in state}
    assert set(chunks) == set(frames) == ids
    assert len(ids) == (2 if way == "batch" else 1)
    if way != "structured":
        assert {"".join(text(chunk["content"]) for chunk in each) for each in chunks.values()} == {f"{WORDS} "}
    check_frames(frames, structured=way == "structured")


@pytest.mark.parametrize(("model", "way"), [(m, w) for m, w in CASES if w in ("ainvoke", "events_v3", "batch")])
async def test_an_answer_that_is_not_kept_is_one_message_too(pool: Pool, model: str, way: str) -> None:
    thread = await said(pool, providers.silent, model, way, mode="messages-tuple")
    frames = of_protocol(thread)
    assert set(tuples(thread)) == set(frames)
    assert len(frames) == (2 if way == "batch" else 1)
    check_frames(frames, structured=way == "structured")


@pytest.mark.parametrize("way", ["ainvoke", "events_v3", "batch"])
@pytest.mark.parametrize("model", MODELS)
async def test_an_answer_within_a_subgraph_or_a_tool_is_one_message(pool: Pool, model: str, way: str) -> None:
    for graph in (providers.nested, providers.tools):
        thread = await said(pool, graph, model, way, mode="messages-tuple")
        frames = {
            key: events for key, events in of_protocol(thread).items() if events[0]["role"] == "ai" and key != "calls"
        }
        assert len(frames) == (2 if way == "batch" else 1)
        assert set(tuples(thread)) - {"calls"} == set(frames)


@pytest.mark.parametrize("way", ["ainvoke", "astream", "events_v3"])
@pytest.mark.parametrize("model", MODELS)
async def test_an_answer_that_is_not_to_be_streamed_is_not(pool: Pool, model: str, way: str) -> None:
    thread = await said(pool, providers.whispers, model, way, mode="messages-tuple")
    assert not of_protocol(thread)
    assert not tuples(thread)


@pytest.mark.parametrize("way", ["ainvoke", "events_v3"])
@pytest.mark.parametrize("model", MODELS)
async def test_a_message_that_grows_is_one(pool: Pool, model: str, way: str) -> None:
    thread = await said(pool, providers.speaks, model, way, mode="messages")
    growing = [data[0] for name, data in thread.shown if name in ("messages/partial", "messages/complete")]
    assert {message["id"] for message in growing} == {thread.shown[-1][1][-1].id}
    assert text(growing[-1]["content"]) == f"{WORDS} "


@pytest.mark.parametrize("model", ["openai", "responses", "anthropic"])
async def test_usage_is_told_once(pool: Pool, model: str) -> None:
    thread = await said(pool, providers.speaks, model, "ainvoke", mode="messages-tuple")
    [events] = of_protocol(thread).values()
    used = thread.shown[-1][1][-1].usage_metadata
    assert events[-1]["usage"]["total_tokens"] == used["total_tokens"]
