"""A chat model that needs no key: it follows a script and streams it at the pace of a real one."""

import asyncio
import json
import os
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any
from uuid import uuid4

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import agenerate_from_stream, generate_from_stream
from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable

FIRST_TOKEN = 0.25
"""Seconds before a turn's first token."""

TOKEN = 0.045
"""Mean seconds between two tokens."""

CITIES = {
    "sf": "San Francisco",
    "san francisco": "San Francisco",
    "nyc": "New York City",
    "new york": "New York City",
    "new york city": "New York City",
}


def delay(seconds: float) -> float:
    """Scale a delay by `WEATHER_SPEED`: 1 is the pace of a person's model, 0 is no delay."""
    return seconds * float(os.environ.get("WEATHER_SPEED", "1"))


def city_in(text: str) -> str | None:
    """Name the city that a question or a search query is about."""
    found = re.search(r"\b(?:in|for|at)\s+([^\W\d_][\w .'-]*)", text)
    if found is None:
        return None
    name = re.sub(r"\s+(?:today|tomorrow|now|right now|this week)$", "", found[1].strip(" .'-"))
    return CITIES.get(name.lower(), name if name != name.lower() else name.title())


class ScriptedChatModel(BaseChatModel):
    """Ask for one search about the city in the last question, then answer with what the search found."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, Any]:
        """Return the model itself: the script knows its tool."""
        return self

    def _script(self, messages: list[BaseMessage]) -> Iterator[tuple[float, ChatGenerationChunk]]:
        message_id = f"msg_{uuid4().hex}"
        for n, part in enumerate(turn(messages)):
            pause = FIRST_TOKEN if n == 0 else TOKEN * (0.7, 1.0, 1.3)[n % 3]
            yield pause, ChatGenerationChunk(message=part.model_copy(update={"id": message_id}))
        last = AIMessageChunk(content="", id=message_id, chunk_position="last")
        yield 0, ChatGenerationChunk(message=last)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for pause, chunk in self._script(messages):
            await asyncio.sleep(delay(pause))
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for pause, chunk in self._script(messages):
            time.sleep(delay(pause))
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return await agenerate_from_stream(self._astream(messages, stop, run_manager, **kwargs))

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, run_manager, **kwargs))


def turn(messages: list[BaseMessage]) -> Iterator[AIMessageChunk]:
    """Yield the model's next turn in a conversation, token by token."""
    question = next((str(m.content) for m in reversed(messages) if isinstance(m, HumanMessage)), "")
    city = city_in(question)
    if messages and isinstance(messages[-1], ToolMessage):
        yield from text(answer(city or "there", str(messages[-1].content)))
    elif city:
        yield from text(f"I'll look up the weather in {city}.")
        yield from search_call(f"weather in {city}")
    else:
        yield from text("I can tell you about the weather. Which city do you mean? Ask me for the weather in one.")


def answer(city: str, found: str) -> str:
    """Write the answer to a question about a city from the JSON that the search returned."""
    results: list[dict[str, str]] = json.loads(found)
    facts = "\n".join(f"- {result['content']}" for result in results)
    sources = "\n".join(f"- {result['url']}" for result in results)
    return (
        f"Here is what I found about the weather in {city}.\n\n{facts}\n\n"
        "Forecasts change during the day, so look again before you leave if your plans depend on it. "
        "If you are going to be outside for long, take water and a layer that you can put on or take off.\n\n"
        f"Sources:\n{sources}"
    )


def text(content: str) -> Iterator[AIMessageChunk]:
    """Split text into chunks of about the length of a token."""
    for token in re.findall(r"\s*\S{1,6}", content):
        yield AIMessageChunk(content=token)


def search_call(query: str) -> Iterator[AIMessageChunk]:
    """Stream a call of the search tool: its name and id first, then its arguments in pieces."""
    call = tool_call_chunk(name="search", args="", id=f"toolu_{uuid4().hex[:24]}", index=0)
    yield AIMessageChunk(content="", tool_call_chunks=[call])
    for piece in re.findall(r".{1,8}", json.dumps({"query": query})):
        yield AIMessageChunk(content="", tool_call_chunks=[tool_call_chunk(args=piece, index=0)])
