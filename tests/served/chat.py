"""A chat model that streams what it is told, and graphs around it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph


class Parrot(BaseChatModel):
    """Repeats the last message, word by word."""

    delay: float = 0.0

    @property
    def _llm_type(self) -> str:
        return "parrot"

    def _words(self, messages: list[BaseMessage]) -> list[str]:
        return [f"{word} " for word in str(messages[-1].content).split()]

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content="".join(self._words(messages))))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: Any = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for word in self._words(messages):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: Any = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for word in self._words(messages):
            await asyncio.sleep(self.delay)
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=word))
            if run_manager:
                await run_manager.on_llm_new_token(word, chunk=chunk)
            yield chunk


async def speak(state: MessagesState) -> dict[str, list[BaseMessage]]:
    """Answer."""
    get_stream_writer()({"speaking": True})
    delay = 0.05 if "slowly" in str(state["messages"][-1].content) else 0.0
    return {"messages": [await Parrot(delay=delay).ainvoke(state["messages"])]}


builder = StateGraph(MessagesState)
builder.add_node("speak", speak)
builder.add_edge(START, "speak")
builder.add_edge("speak", END)
graph = builder.compile()

outer = StateGraph(MessagesState)
outer.add_node("sub", builder.compile())
outer.add_node("last", speak)
outer.add_edge(START, "sub")
outer.add_edge("sub", "last")
outer.add_edge("last", END)
nested = outer.compile()


async def greet(state: MessagesState) -> dict[str, list[BaseMessage]]:
    """Say a word before the answer, and the question again."""
    return {"messages": [await Parrot().ainvoke("Well."), HumanMessage(state["messages"][-1].content)]}


# A word, then an answer in a graph of its own.
staged = StateGraph(MessagesState)
staged.add_node("greet", greet)
staged.add_node("sub", builder.compile())
staged.add_edge(START, "greet")
staged.add_edge("greet", "sub")
staged.add_edge("sub", END)
stages = staged.compile()
