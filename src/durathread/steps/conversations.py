"""What is wrong with a conversation that was cut off, and how it is made whole.

Providers refuse a conversation in which a call of a tool has no result, or has it anywhere but directly after the message
that calls it.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import NAMESPACE_OID, uuid5

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langgraph.graph.message import REMOVE_ALL_MESSAGES

from durathread.records import JsonObject

STOPPED = "This call was interrupted before it returned: it has no result, and may or may not have had an effect."
# How messages are marked that a repair has made.
MARK: JsonObject = {"durathread": {"interrupted": True}}


@dataclass(frozen=True)
class Incoming:
    """What the input of a run says of messages that are there already."""

    # Calls whose results it brings, and messages that it replaces or removes.
    answers: AbstractSet[str] = field(default_factory=frozenset[str])
    replaces: AbstractSet[str] = field(default_factory=frozenset[str])

    @property
    def replaces_all(self) -> bool:
        """Whether it removes all that is there."""
        return REMOVE_ALL_MESSAGES in self.replaces


@dataclass(frozen=True)
class Text:
    """What a message had come to when its model was cut off."""

    message_id: str
    text: str


def incoming(given: Any) -> Incoming:
    """Read the input of a run, as JSON: clients answer calls of tools that are theirs with results of their own."""
    parts = list(_parts(given))
    answers = {str(part["tool_call_id"]) for part in parts if part.get("tool_call_id")}
    return Incoming(answers, {part["id"] for part in parts if isinstance(part.get("id"), str)})


def closed(messages: Sequence[BaseMessage], said: Incoming) -> list[BaseMessage]:
    """Put a result directly after each message that calls tools: the one that is there, or else that it was interrupted."""
    found: list[BaseMessage] = []
    moved = set[int]()
    for place, message in enumerate(messages):
        if place in moved:
            continue
        found.append(message)
        if not (calls := _calls(message)) or message.id in said.replaces:
            continue
        after = place + 1
        while after < len(messages) and isinstance(result := messages[after], ToolMessage):
            found.append(result)
            moved.add(after)
            calls.pop(result.tool_call_id, None)
            after += 1
        for call, name in calls.items():
            late = _result_of(call, messages, after)
            if late is not None:
                moved.add(late)
                found.append(messages[late])
            elif call not in said.answers:
                found.append(_stopped(message, call, name))
    return found


def has_open_calls(messages: Sequence[BaseMessage]) -> bool:
    """Say whether a call has no result where it must be."""
    return len(closed(messages, Incoming())) != len(messages)


def partial(text: Text) -> AIMessage:
    """Build the message of which only this was said."""
    return AIMessage(text.text, id=text.message_id, response_metadata=MARK)


def _calls(message: BaseMessage) -> dict[str, str | None]:
    """List the calls of a message, by id: those with arguments that are not JSON too, which providers count."""
    if not isinstance(message, AIMessage):
        return {}
    both = [*message.tool_calls, *message.invalid_tool_calls]
    return {call["id"]: call["name"] for call in both if call["id"]}


def _result_of(call: str, messages: Sequence[BaseMessage], start: int) -> int | None:
    """Find the result of a call that is further on: before another message makes a call of that id."""
    for place in range(start, len(messages)):
        message = messages[place]
        if isinstance(message, ToolMessage) and message.tool_call_id == call:
            return place
        if call in _calls(message):
            return None
    return None


def _stopped(message: BaseMessage, call: str, name: str | None) -> ToolMessage:
    named = str(uuid5(NAMESPACE_OID, f"{message.id}/{call}"))
    return ToolMessage(STOPPED, tool_call_id=call, name=name, status="error", id=named, response_metadata=MARK)


def _parts(given: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(given, Mapping):
        yield cast(Mapping[str, Any], given)
        given = [*cast(Mapping[str, Any], given).values()]
    if isinstance(given, list | tuple):
        for each in cast(Sequence[Any], given):
            yield from _parts(each)
