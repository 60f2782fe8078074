"""The messages that one step of a run writes: which are open, which are done, and which nobody has been shown."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage, RemoveMessage, ToolMessage

from durathread.events.content_blocks import Writing, whole
from durathread.events.model_calls import ModelCalls
from durathread.records import JsonObject
from durathread.streams.closing_frames import dropped

ABANDONED = "The model call was given up."

Namespace = tuple[str, ...]
# Takes events of messages, the namespace, and LangGraph's metadata of the call.
Emit = Callable[[Iterable[JsonObject], Namespace, JsonObject], None]


class Messages:
    """Follows the messages of one step, and emits their events."""

    def __init__(self, emit: Emit, calls: ModelCalls) -> None:
        """Begin with none; `calls` says which have come to their end."""
        self._emit = emit
        self._calls = calls
        self._writing: dict[str, tuple[Namespace, JsonObject, Writing]] = {}
        self._done: set[str] = set()
        # Of messages that nobody has been shown: what came of them.
        self._unseen: dict[str, list[tuple[Namespace, AIMessageChunk, JsonObject]]] = {}

    def remember(self, namespace: Namespace, message: BaseMessage, call: JsonObject) -> None:
        """Keep what is said of a message that is being written, for who may come."""
        if isinstance(message, AIMessageChunk) and message.id:
            self._unseen.setdefault(message.id, []).append((namespace, message, call))
            if message.chunk_position == "last":
                del self._unseen[message.id]

    def recall(self) -> None:
        """Emit what was kept."""
        unseen, self._unseen = self._unseen, {}
        for chunks in unseen.values():
            for chunk in chunks:
                self.take(*chunk)

    def take(self, namespace: Namespace, message: BaseMessage, call: JsonObject) -> None:
        """Emit what LangGraph yielded of a message: a chunk, or all of it."""
        if isinstance(message, RemoveMessage):
            return
        if isinstance(message, AIMessageChunk):
            self._chunk(namespace, message, call)
            return
        if message.id in self._done:
            return
        self._done.add(message.id or "")
        if isinstance(message, ToolMessage):
            # Results are told of by `tools` and the state. Among messages they are where their call is.
            namespace = (*namespace, f"tools:{message.tool_call_id}")
        self._emit(whole(message, call), namespace, call)

    def catch_up(self, values: Any, *, before: Any) -> None:
        """Emit, whole, the messages of a state that were neither in the one before nor shown since."""
        known = {*_ids(before), *self._done, *self._writing}
        for message in _messages(values):
            if message.id not in known and not isinstance(message, HumanMessage):
                self.take((), message, {})

    def close(self, namespace: Namespace, task: JsonObject) -> None:
        """End the messages that a task left open: those in its result are complete, nobody will complete the others."""
        left = [
            (message_id, call)
            for message_id, (inside, call, _) in self._writing.items()
            if inside == namespace and call.get("langgraph_checkpoint_ns", "").endswith(f":{task['id']}")
        ]
        if not left:
            return
        kept = {*_ids(task["result"]), *self._calls.complete}
        for message_id, call in left:
            if message_id in kept:
                self._emit(self._finish(message_id), namespace, call)
            elif not task.get("error"):
                writing = self._writing.pop(message_id)[2]
                self._emit(dropped(message_id, len(writing.blocks), ABANDONED), namespace, call)

    def finish(self) -> None:
        """End all that is open, as it is."""
        for message_id, (namespace, call, _) in list(self._writing.items()):
            self._emit(self._finish(message_id), namespace, call)

    def fail(self, reason: str) -> None:
        """End all that is open, with an error."""
        for message_id, (namespace, call, _) in self._writing.items():
            self._emit([{"event": "error", "id": message_id, "message": reason}], namespace, call)
        self._writing.clear()

    def _chunk(self, namespace: Namespace, chunk: AIMessageChunk, call: JsonObject) -> None:
        message_id = chunk.id or ""
        if message_id in self._done:
            return
        found = self._writing.get(message_id)
        if found is None:
            found = self._writing[message_id] = namespace, call, Writing(message_id)
        events = list(found[2].add(chunk, call))
        if chunk.chunk_position == "last":
            events += self._finish(message_id)
        self._emit(events, namespace, call)

    def _finish(self, message_id: str) -> Iterator[JsonObject]:
        self._done.add(message_id)
        return self._writing.pop(message_id)[2].finish()


def _ids(result: Any) -> Iterator[str]:
    return (message.id for message in _messages(result) if message.id)


def _messages(result: Any) -> Iterator[BaseMessage]:
    """List the messages in what a node returned: each object once, since they may hold each other."""
    seen, left = set[int](), [result]
    while left:
        each = left.pop()
        if isinstance(each, BaseMessage):
            yield each
        elif isinstance(each, dict | list | tuple) and id(cast(Any, each)) not in seen:
            seen.add(id(cast(Any, each)))
            parts = cast(JsonObject, each).values() if isinstance(each, dict) else cast(Sequence[Any], each)
            left.extend(reversed([*parts]))
