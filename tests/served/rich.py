"""A graph that does everything that the streaming protocol can show: blocks of every kind, questions, deferral, failure."""

from collections.abc import AsyncIterator
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, RemoveMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Send, interrupt

CITATION = {"type": "citation", "url": "https://example.org", "title": "Ex", "start_index": 0, "end_index": 5}
USAGE: dict[str, Any] = {
    "input_tokens": 3,
    "output_tokens": 2,
    "total_tokens": 5,
    "input_token_details": {"cache_read": 1},
    "output_token_details": {"reasoning": 1},
}
BLOCKS: list[dict[str, Any]] = [
    {"type": "reasoning", "reasoning": "Let me ", "index": 0},
    {"type": "reasoning", "reasoning": "think", "index": 0, "extras": {"signature": "s"}},
    {"type": "text", "text": "Well, ", "index": 1},
    {"type": "text", "text": "yes", "index": 1, "annotations": [CITATION]},
    {"type": "image", "base64": "aGk=", "mime_type": "image/png", "index": 2},
    {"type": "server_tool_call_chunk", "id": "s1", "name": "search", "args": '{"q": ', "index": 3},
    {"type": "server_tool_call_chunk", "args": '"x"}', "index": 3},
    {"type": "server_tool_result", "tool_call_id": "s1", "status": "success", "output": [1, 2], "index": 4},
    {"type": "non_standard", "value": {"odd": True}, "index": 5},
    {"type": "tool_call_chunk", "id": "c1", "name": "look", "args": '{"at": 1}', "index": 6},
    {"type": "tool_call_chunk", "id": "c2", "name": "look", "args": '{"at": ', "index": 7},
]


class Composer(BaseChatModel):
    """Streams one block of each kind."""

    @property
    def _llm_type(self) -> str:
        return "composer"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("not streamed"))])

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        made: Any = {"response_metadata": {"output_version": "v1", "model_provider": "test", "model_name": "composer"}}
        for block in BLOCKS:
            calls: Any = [block] if block["type"] == "tool_call_chunk" else []
            chunk = AIMessageChunk(content=[block], tool_call_chunks=calls, **made)
            yield ChatGenerationChunk(message=chunk)
        ending: Any = {"finish_reason": "stop"}
        yield ChatGenerationChunk(
            message=AIMessageChunk(
                content="", usage_metadata=cast(Any, USAGE), response_metadata=ending, chunk_position="last"
            )
        )


async def compose(state: MessagesState) -> dict[str, list[BaseMessage]]:
    """Answer with everything, and tell of it."""
    write = get_stream_writer()
    write({"name": "progress", "payload": 1})
    write(["unnamed"])
    return {"messages": [await Composer().ainvoke(state["messages"])]}


def ask(state: MessagesState) -> dict[str, list[BaseMessage]]:
    """Ask."""
    return {"messages": [SystemMessage(f"answered {interrupt({'question': 'well?'})}")]}


def fan(state: MessagesState) -> list[Send]:
    """Send to the same node twice."""
    return [Send("sent", {"messages": []}), Send("sent", {"messages": []})]


def sent(state: MessagesState) -> None:
    """Do nothing."""


def gather(state: MessagesState) -> dict[str, list[BaseMessage]]:
    """Take away the first message, when all else is done."""
    return {"messages": [RemoveMessage(id=str(state["messages"][0].id))]}


def fail(state: MessagesState) -> None:
    """Fail, if so asked."""
    if "fail" in str(state["messages"][0].content):
        raise ValueError("as asked")


def within(node: Any) -> Any:
    """Build a graph of one node."""
    return StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").add_edge("node", END).compile()


builder = StateGraph(MessagesState)
builder.add_node("compose", compose)
builder.add_node("left", within(ask))
builder.add_node("right", within(ask))
builder.add_node("sent", sent)
builder.add_node("gather", gather, defer=True)
builder.add_node("break", within(fail))
for name in ("compose", "left", "right"):
    builder.add_edge(START, name)
builder.add_conditional_edges("compose", fan, ["sent"])
builder.add_edge(["left", "right", "sent"], "break")
builder.add_edge("break", "gather")
builder.add_edge("gather", END)
graph = builder.compile()


def pour(state: MessagesState) -> None:
    """Write as many payloads of as many letters as the question says."""
    number, letters = map(int, str(state["messages"][-1].content).split())
    write = get_stream_writer()
    for count in range(number):
        write({"count": count, "filler": "x" * letters})


torrent = within(pour)
