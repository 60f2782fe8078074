"""What messages had come to when their run was cut off, as its clients were shown it."""

from collections.abc import Set as AbstractSet
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from redis.asyncio import Redis

from durathread.encode import loads
from durathread.records import JsonObject
from durathread.streams.events import stream_key
from durathread.streams.read_pages import newest_first

# An attempt at a run begins with it: what those before it have said was said anew.
BEGINS = b"metadata"
CHUNK, PART, WHOLE, ABOUT = b"messages", b"messages/partial", b"messages/complete", b"messages/metadata"


@dataclass
class _Read:
    """What is known so far of the messages of some tasks, read backwards."""

    tasks: AbstractSet[str]
    # By message; the texts in pieces, the newest first.
    pieces: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    # The message that a task began last.
    last: dict[str, str] = field(default_factory=dict[str, str])

    def take(self, name: bytes, data: Any) -> None:
        """Take an event."""
        if name == CHUNK:
            message, call = cast(tuple[JsonObject, JsonObject], data)
            self._belongs(message.get("id"), call)
            if message.get("id") in self.last.values() and message["type"] in ("ai", "AIMessageChunk"):
                self.pieces.setdefault(message["id"], []).append(text_of(message.get("content")))
        elif name == ABOUT:
            for message_id, about in cast(JsonObject, data).items():
                self._belongs(message_id, about["metadata"])
        else:
            for message in cast(list[JsonObject], data):
                # Each says all that was said before.
                self.pieces.setdefault(message["id"], [text_of(message.get("content"))])

    def _belongs(self, message_id: str | None, call: JsonObject) -> None:
        task = task_of(call)
        if message_id and task in self.tasks and "lc_source" not in call:
            self.last.setdefault(task, message_id)


async def partial_texts(redis: "Redis", run_id: UUID, tasks: AbstractSet[str]) -> dict[str, tuple[str, str]]:
    """Read what the tasks of a run had their models say last: by task, the id of the message and its text.

    It is known as long as the run's events are kept, if its clients asked for messages.

    Raises:
        RedisError: Valkey is unavailable.
    """
    read = _Read(tasks)
    async with aclosing(newest_first(redis, stream_key(run_id))) as entries:
        async for _, fields in entries:
            name = fields[b"e"].partition(b"|")[0]
            if name == BEGINS:
                break
            if name in (CHUNK, PART, WHOLE, ABOUT):
                read.take(name, loads(fields[b"d"]))
    texts = {message_id: "".join(reversed(pieces)) for message_id, pieces in read.pieces.items()}
    return {task: (found, texts[found]) for task, found in read.last.items() if texts.get(found, "").strip()}


def task_of(call: JsonObject) -> str:
    """Name the task that a model was called in: the innermost."""
    return str(call.get("langgraph_checkpoint_ns") or "").rpartition(":")[2]


def text_of(content: Any) -> str:
    """Read what a content says to people: no reasoning, whose signature is missing, and no calls."""
    if isinstance(content, str):
        return content
    blocks = cast(list[Any], content) if isinstance(content, list) else []
    return "".join(
        block if isinstance(block, str) else block.get("text", "")
        for block in blocks
        if isinstance(block, str) or block.get("type") in ("text", "output_text")
    )
