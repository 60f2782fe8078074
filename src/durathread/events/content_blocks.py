"""Turns the messages of a graph into the protocol's: a start, blocks of content with their deltas, a finish.

What a chunk adds is read from its `content_blocks`, which LangChain derives from every provider's format.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage

from durathread.encode import loads
from durathread.records import JsonObject

# What a delta carries; it is left out of the block's start.
DELTAS = {"text": "text", "reasoning": "reasoning", "tool_call_chunk": "args", "server_tool_call_chunk": "args"}
# Fields of whole blocks that may be large: only the block's finish carries them.
HEAVY = ("args", "data", "base64", "output", "value", "transcript")
EMPTY: dict[str, JsonObject] = {
    "tool_call": {"args": {}},
    "server_tool_call": {"args": {}},
    "non_standard": {"value": {}},
    "invalid_tool_call": {"args": None},
}
ROLES = {"human": "human", "system": "system", "tool": "tool"}
# What is kept of the metadata of a call, and under which name.
METADATA = {
    "ls_provider": "provider",
    "ls_model_name": "model",
    "ls_model_type": "model_type",
    "run_id": "run_id",
    "thread_id": "thread_id",
    "langgraph_node": "langgraph_node",
}


@dataclass
class Writing:
    """A message that is being streamed."""

    message_id: str
    # By what tells blocks apart in the provider's stream: their index in ours, and what they hold so far.
    blocks: dict[Any, tuple[int, JsonObject]] = field(default_factory=dict[Any, tuple[int, JsonObject]])
    usage: JsonObject | None = None
    metadata: JsonObject = field(default_factory=dict[str, Any])
    started: bool = False

    def add(self, chunk: AIMessageChunk, call: JsonObject) -> Iterator[JsonObject]:
        """Add a chunk, and return the events that it makes; `call` is LangGraph's metadata."""
        if not self.started:
            self.started = True
            yield _start(chunk, call, self.message_id)
        self.metadata |= chunk.response_metadata
        if chunk.usage_metadata:
            self.usage = _sum(self.usage or {}, dict(chunk.usage_metadata))
        for position, block in enumerate(_blocks(chunk)):
            yield from self._block(position, block)

    def finish(self) -> Iterator[JsonObject]:
        """Finish the message."""
        for index, block in self.blocks.values():
            yield self._event("content-block-finish", index=index, content=_finished(block))
        yield self._event("message-finish", **_ending(self.usage, self.metadata))

    def _block(self, position: int, block: JsonObject) -> Iterator[JsonObject]:
        index = block.get("index")
        # Without an index, a block goes on where one of its type and place has begun.
        key = index if index is not None else (block.get("type"), position)
        known = self.blocks.get(key)
        if known is None:
            known = self.blocks[key] = (len(self.blocks), dict(block))
            yield self._event("content-block-start", index=known[0], content=_skeleton(block))
        else:
            _merge(known[1], block)
        if delta := _delta(block):
            yield self._event("content-block-delta", index=known[0], **delta)

    def _event(self, event: str, **data: Any) -> JsonObject:
        return {"event": event, "id": self.message_id, **data}


def whole(message: BaseMessage, call: JsonObject) -> Iterator[JsonObject]:
    """Return the events of a message that was not streamed."""
    message_id = message.id or ""
    yield _start(message, call, message_id)
    for index, block in enumerate(_blocks(message)):
        own = {"id": message_id, "index": index}
        yield {"event": "content-block-start", **own, "content": _skeleton(block)}
        if delta := _delta(block):
            yield {"event": "content-block-delta", **own, **delta}
        yield {"event": "content-block-finish", **own, "content": _finished(block)}
    usage = message.usage_metadata if isinstance(message, AIMessage) else None
    ending = _ending(dict(usage) if usage else None, message.response_metadata)
    yield {"event": "message-finish", "id": message_id, **ending}


def _start(message: BaseMessage, call: JsonObject, message_id: str) -> JsonObject:
    role = ROLES.get(message.type.removesuffix("MessageChunk").lower(), "ai")
    metadata = {name: str(call[key]) for key, name in METADATA.items() if call.get(key) is not None}
    for key, name in (("model_provider", "provider"), ("model_name", "model")):
        if isinstance(found := message.response_metadata.get(key), str):
            metadata[name] = found
    start: JsonObject = {"event": "message-start", "role": role, "id": message_id, "metadata": metadata}
    if isinstance(message, ToolMessage):
        start["tool_call_id"] = message.tool_call_id
    if message.name:
        start["name"] = message.name
    return start


def _blocks(message: BaseMessage) -> list[JsonObject]:
    found: list[JsonObject] = [{**block} for block in message.content_blocks]
    if isinstance(message, AIMessage) and not isinstance(message, AIMessageChunk):
        # Which `content_blocks` leaves out.
        found += [{**call, "type": "invalid_tool_call"} for call in message.invalid_tool_calls]
    return found


def _skeleton(block: JsonObject) -> JsonObject:
    kind = block.get("type", "text")
    if kind in DELTAS:
        kept = {key: value for key, value in block.items() if key != "annotations"}
        return {**kept, DELTAS[kind]: ""}
    kept = {key: value for key, value in block.items() if key not in HEAVY}
    return {**kept, **EMPTY.get(kind, {})}


def _delta(block: JsonObject) -> JsonObject | None:
    kind = block.get("type")
    if kind not in DELTAS or not (more := block.get(DELTAS[kind])):
        return None
    if kind in ("text", "reasoning"):
        return {"delta": {"type": f"{kind}-delta", kind: more}}
    # `content` is for @langchain/langgraph-sdk before 1.12, which knows no `tool-call-delta` and fails at one.
    return {"delta": {"type": "tool-call-delta", "args": more}, "content": {"type": kind, "args": more}}


def _merge(held: JsonObject, block: JsonObject) -> None:
    grows = DELTAS.get(held.get("type", ""))
    if grows is None or block.get("type") != held.get("type"):
        held.clear()
        held.update(block)
        return
    text = (held.get(grows) or "") + (block.get(grows) or "")
    extras = {**(held.get("extras") or {}), **(block.get("extras") or {})}
    held.update({key: value for key, value in block.items() if value is not None})
    held[grows] = text
    if extras:
        held["extras"] = extras


def _finished(block: JsonObject) -> JsonObject:
    kind = block.get("type", "")
    if not kind.endswith("tool_call_chunk"):
        return {key: value for key, value in block.items() if key != "index"}
    rest = {key: value for key, value in block.items() if key not in ("args", "index")}
    raw = block.get("args") or ""
    try:
        args = loads(raw) if raw else {}
    except json.JSONDecodeError:
        args = None
    if not isinstance(args, dict):
        return {**rest, "type": "invalid_tool_call", "args": raw, "error": "The arguments are not a JSON object."}
    return {**rest, "type": kind.removesuffix("_chunk"), "args": args}


def _ending(usage: JsonObject | None, metadata: JsonObject) -> JsonObject:
    return {**({"usage": usage} if usage else {}), **({"metadata": metadata} if metadata else {})}


def _sum(total: JsonObject, more: JsonObject) -> JsonObject:
    summed = dict(total)
    for key, value in more.items():
        if isinstance(value, dict):
            summed[key] = _sum(summed.get(key) or {}, value)
        elif isinstance(value, int):
            summed[key] = summed.get(key, 0) + value
    return summed
