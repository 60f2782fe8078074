"""An agent that calls a tool: a model that thinks, calls and answers from a script, and tools that report as they work."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.prebuilt.tool_node import ToolRuntime, tools_condition

CALL = "call_1"


class Caller(BaseChatModel):
    """Thinks, then calls the tool that the question names; answers once it has a result."""

    @property
    def _llm_type(self) -> str:
        return "caller"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content="not streamed"))])

    def _chunks(self, messages: list[BaseMessage]) -> list[AIMessageChunk]:
        last = messages[-1]
        if isinstance(last, ToolMessage):
            words = ["It", " is ", str(last.content)]
            return [AIMessageChunk(content=word) for word in words] + [usage()]
        name, _, argument = str(last.content).partition(" ")
        thoughts: list[Any] = [{"type": "reasoning", "reasoning": part, "index": 0} for part in ("Let me ", name)]
        calls: list[Any] = [
            {"type": "tool_call_chunk", "id": CALL, "name": name, "args": "", "index": 1},
            {"type": "tool_call_chunk", "id": None, "name": None, "args": '{"city": ', "index": 1},
            {"type": "tool_call_chunk", "id": None, "name": None, "args": f'"{argument}"}}', "index": 1},
        ]
        made: Any = {"response_metadata": {"output_version": "v1"}}
        return [
            *(AIMessageChunk(content=[thought], **made) for thought in thoughts),
            *(AIMessageChunk(content=[call], tool_call_chunks=[call], **made) for call in calls),
            usage(),
        ]

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._chunks(messages):
            yield ChatGenerationChunk(message=chunk)


def usage() -> AIMessageChunk:
    """Build the chunk that says what a call has cost."""
    return AIMessageChunk(content="", usage_metadata={"input_tokens": 3, "output_tokens": 2, "total_tokens": 5})


@tool
async def weather(city: str, runtime: ToolRuntime[None, Any]) -> str:
    """Look out of the window."""
    for part in ("looking", "…"):
        runtime.emit_output_delta(part)
    return f"sunny in {city}"


@tool
async def broken(city: str) -> str:
    """Fail."""
    raise ValueError(f"no window in {city}")


@tool
async def wait(city: str) -> str:
    """Wait for the weather to change."""
    await asyncio.sleep(60)
    return f"changed in {city}"


async def model(state: MessagesState) -> dict[str, list[BaseMessage]]:
    """Ask the model, and say so."""
    writer = get_stream_writer()
    writer({"name": "progress", "payload": {"asked": len(state["messages"])}})
    writer("asked")
    return {"messages": [await Caller().ainvoke(state["messages"])]}


builder = StateGraph(MessagesState)
builder.add_node("model", model)
builder.add_node("tools", ToolNode([weather, broken, wait], handle_tool_errors=True))
builder.add_edge(START, "model")
builder.add_conditional_edges("model", tools_condition)
builder.add_edge("tools", "model")
graph = builder.compile()


class Fragile(BaseChatModel):
    """Streams ten words; in the midst of its first answer it kills its worker, or leaves it at that."""

    path: str
    dies: bool = True

    @property
    def _llm_type(self) -> str:
        return "fragile"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        first = not Path(self.path).exists()  # noqa: ASYNC240
        Path(self.path).touch()  # noqa: ASYNC240
        for number in range(10):
            if number == 5 and first:
                # Until what was said has been written.
                await asyncio.sleep(0.5)
                if self.dies:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise ConnectionError("the model is gone")
            yield ChatGenerationChunk(message=AIMessageChunk(content=f"{number} "))


async def fragile(state: MessagesState) -> dict[str, list[BaseMessage]]:
    """Ask a model that kills its worker: the question is the path of a file that says that it has."""
    path = str(state["messages"][-1].content)
    return {"messages": [await Fragile(path=path).ainvoke(state["messages"])]}


async def patient(state: MessagesState) -> dict[str, list[BaseMessage]]:
    """Ask a model that fails in the midst of its first answer, and ask again."""
    path = str(state["messages"][-1].content)
    try:
        answer = await Fragile(path=path, dies=False).ainvoke(state["messages"])
    except ConnectionError:
        answer = await Fragile(path=path, dies=False).ainvoke(state["messages"])
    return {"messages": [answer]}


def single(node: Any) -> Any:
    """Build a graph of one node."""
    return StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").add_edge("node", END).compile()


async def whole(state: MessagesState) -> dict[str, list[BaseMessage]]:
    """Add messages that no model has streamed."""
    return {"messages": [HumanMessage("aside", id="h1"), AIMessage("answer", id="a1")]}


async def held(state: MessagesState) -> dict[str, list[BaseMessage]]:
    """Say so, and answer as soon as there is a file of the path that was asked."""
    get_stream_writer()("holding")
    while not Path(str(state["messages"][-1].content)).exists():  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(0.01)
    return {"messages": [AIMessage("at last")]}


held_graph = single(held)
fragile_graph = single(fragile)
patient_graph = single(patient)
whole_graph = single(whole)
