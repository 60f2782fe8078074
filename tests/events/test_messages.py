"""The messages of a step, for who comes late: what was shown is not shown again."""

from collections.abc import Iterable
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage

from durathread.events.messages import Messages
from durathread.events.model_calls import ModelCalls

CALL = {"langgraph_node": "node"}


def starts(take: Any) -> list[str]:
    """Name the messages that begin."""
    found = list[str]()

    def emit(events: Iterable[dict[str, Any]], *_: Any) -> None:
        found.extend(event["id"] for event in events if event["event"] == "message-start")

    take(Messages(emit, ModelCalls()))
    return found


def test_a_state_shows_only_what_was_neither_before_it_nor_shown() -> None:
    old, question = AIMessage("old", id="old"), HumanMessage("q", id="q")
    shown, answer = ToolMessage("shown", tool_call_id="c", id="shown"), AIMessage("answer", id="answer")
    before: dict[str, list[BaseMessage]] = {"messages": [old]}

    def take(messages: Messages) -> None:
        messages.take((), shown, CALL)
        messages.take((), AIMessageChunk(content="being ", id="written"), CALL)
        state = {"messages": [old, question, shown, AIMessage("being written", id="written"), answer]}
        messages.catch_up(state, before=before)

    assert starts(take) == ["shown", "written", "answer"]


def test_what_was_kept_is_recalled_once_and_not_what_was_complete() -> None:
    def take(messages: Messages) -> None:
        for chunk in (
            AIMessageChunk(content="one", id="one", chunk_position="last"),
            AIMessageChunk(content="t", id="two"),
            AIMessageChunk(content="wo", id="two"),
        ):
            messages.remember((), chunk, CALL)
        messages.recall()
        messages.recall()

    assert starts(take) == ["two"]


def test_messages_are_found_in_a_state_whose_parts_hold_each_other() -> None:
    ring: dict[str, Any] = {"messages": [AIMessage("one", id="one")]}
    ring["others"] = [ring, {"back": ring, "messages": (AIMessage("two", id="two"),)}]

    assert starts(lambda messages: messages.catch_up(ring, before=None)) == ["one", "two"]
