"""One id a call of a model: what LangGraph makes messages of is told apart by it.

Clients of models report their tokens as they will. LangChain gives each chunk an id before it reports it, but a client that
reports by itself (as it does in `astream_events(version="v3")`) has not been given one yet, and one whose provider has ids of
its own sends them with some chunks only. LangGraph would take each chunk for a message.
"""

from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult

# As LangChain names a message that its provider does not.
PREFIX = "lc_run--"


class ModelCalls(BaseCallbackHandler):
    """Gives all chunks of a call, and the message that comes of them, the id of the first.

    It must be heard before LangGraph's own handler, and is: LangGraph puts its own last.
    """

    run_inline = True

    def __init__(self) -> None:
        """Know of no call."""
        self._ids: dict[UUID, str] = {}
        self.complete: set[str] = set()
        """The messages whose calls have come to their end."""

    @property
    def ignore_chain(self) -> bool:
        """Hear nothing of chains."""
        return True

    @property
    def ignore_retriever(self) -> bool:
        """Hear nothing of retrievers."""
        return True

    @property
    def ignore_agent(self) -> bool:
        """Hear nothing of tools."""
        return True

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        """Take note of nothing: without this, LangChain takes a chat model for another."""

    def on_llm_new_token(
        self, token: Any, *, chunk: Any = None, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """Name a chunk as the first of its call."""
        if isinstance(chunk, ChatGenerationChunk):
            chunk.message.id = self._ids.setdefault(run_id, chunk.message.id or f"{PREFIX}{run_id}")

    def on_llm_end(
        self, response: LLMResult, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """Name the message as its chunks."""
        named = self._ids.pop(run_id, None)
        for generation in response.generations[0] if response.generations else ():
            if named is not None and isinstance(generation, ChatGeneration):
                generation.message.id = named
        if named is not None:
            self.complete.add(named)

    def on_llm_error(
        self, error: BaseException, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """Forget a call that has failed."""
        self._ids.pop(run_id, None)
