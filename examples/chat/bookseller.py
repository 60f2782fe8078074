"""A chat model that needs no key: it follows a script, and streams it at the pace of a real one."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any
from uuid import uuid4

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import agenerate_from_stream
from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable

TOKEN = 0.04
"""Seconds between two tokens, scaled by `CHAT_SPEED`: 1 is the pace of a real model, 0 is no delay."""

SHELF = {
    "whales": {"Moby-Dick": 2, "Twenty Thousand Leagues Under the Seas": 1},
    "islands": {"Treasure Island": 3, "The Tempest": 1},
}

STORY = """\
The bookshop at the end of the pier opened only when the tide was out. Its owner, Mrs. Aldous, said that salt was good \
for poetry and bad for everything else, and so she kept the poetry by the door.

One evening a boy came in with a book that the sea had taken. Its pages had dried in waves, and between them lay grains \
of sand, a strand of weed, and one very small crab, which walked out onto the counter and sat down.

"I would like to return this," said the boy. "It is not finished." Mrs. Aldous turned the last page, and he was right: \
the story stopped in the middle of a word. She looked at the crab. The crab looked at the sea.

So she gave the boy a pencil. He comes every evening now, when the tide is out, and writes another page; and those who \
borrow the book say that it smells of rain, and that they cannot wait to hear how it goes on."""

HELP = (
    "Good day! I can tell you a story, look up what we have about whales or islands, or order a book for you. "
    "What will it be?"
)

overloaded: set[str | None] = set()
"""Questions at which the model has failed."""


class Bookseller(BaseChatModel):
    """Tell a story, look books up, order them, or say what it can do."""

    @property
    def _llm_type(self) -> str:
        return "bookseller"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, Any]:
        """Return the model itself: the script knows its tools."""
        return self

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        message_id = f"msg_{uuid4().hex}"
        pause = TOKEN * float(os.environ.get("CHAT_SPEED", "1"))
        for part in turn(messages):
            await asyncio.sleep(pause)
            chunk = ChatGenerationChunk(message=part.model_copy(update={"id": message_id}))
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return await agenerate_from_stream(self._astream(messages, stop, run_manager, **kwargs))

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError("Call the model asynchronously.")


def turn(messages: list[BaseMessage]) -> Iterator[AIMessageChunk]:
    """Yield the model's next turn in a conversation, token by token.

    Raises:
        RuntimeError: the question is to be overloaded by, and was asked for the first time.
    """
    question = next((m for m in reversed(messages) if isinstance(m, HumanMessage)), None)
    asked = str(question.content) if question else ""
    if question and "overload" in asked.lower() and question.id not in overloaded:
        overloaded.add(question.id)
        raise RuntimeError("The model is overloaded. Try again in a moment.")
    if messages and isinstance(messages[-1], ToolMessage):
        yield from text(conclusion(messages[-1]))
    elif order := re.search(r"\border (?:(\d+) (?:copies of )?)?(.+?)[.!?]*$", asked, re.IGNORECASE):
        yield from text("I will order that, if you approve.")
        yield from call("order_books", {"title": order[2], "copies": int(order[1] or 1)})
    elif subject := next((subject for subject in SHELF if subject in asked.lower()), None):
        yield from text("Let me look at the shelf.")
        yield from call("find_books", {"subject": subject})
    else:
        yield from text(STORY if "story" in asked.lower() else HELP)


def conclusion(result: ToolMessage) -> str:
    """Say what a tool has done."""
    if result.status == "error":
        return f"I have not ordered anything. You said: {result.content}"
    if result.name == "find_books":
        return f"This is what we have:\n\n{result.content}"
    return f"Done. {result.content} I will write to you when it arrives."


def text(content: str) -> Iterator[AIMessageChunk]:
    """Split text into chunks of about the length of a token."""
    for token in re.findall(r"\s*\S{1,6}", content):
        yield AIMessageChunk(content=token)


def call(name: str, args: dict[str, Any]) -> Iterator[AIMessageChunk]:
    """Stream the call of a tool: its name and id first, then its arguments in pieces."""
    first = tool_call_chunk(name=name, args="", id=f"call_{uuid4().hex[:24]}", index=0)
    yield AIMessageChunk(content="", tool_call_chunks=[first])
    for piece in re.findall(r".{1,8}", json.dumps(args)):
        yield AIMessageChunk(content="", tool_call_chunks=[tool_call_chunk(args=piece, index=0)])
