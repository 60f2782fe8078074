"""Writes a message again as its stream transformers have left it: their events are the protocol's, its chunks LangChain's."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import orjson
from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk

from durathread.records import JsonObject

FIELDS = {"text-delta": "text", "reasoning-delta": "reasoning", "tool-call-delta": "args"}
# Where providers put what a block says, by kind.
PIECES = {
    "text": ("text",),
    "reasoning": ("thinking", "reasoning"),
    "args": ("partial_json", "args", "arguments", "input"),
}
# Derived from other fields, or in another form what they say.
DERIVED = {"tool_calls", "invalid_tool_calls", "type"}
RAW_CALLS = {"tool_calls", "function_call"}


@dataclass
class Said:
    """What a chunk says in a block, or what had been held back of it: before and after the transformers."""

    index: int
    kind: str
    before: str
    after: str


class Rewriting:
    """One message, while it is written."""

    def __init__(self, message_id: str) -> None:
        """Begin a message."""
        self._id = message_id
        self.kept = True
        """Whether the transformers leave anything of it."""
        self._said: list[Said] = []
        self._held: list[Said] = []
        # What has been said in each block: before and after.
        self._blocks: dict[int, Said] = {}
        # What a piece of each block looks like, without what it says.
        self._shapes: dict[int, tuple[JsonObject, str]] = {}
        self._places: dict[int, int | str | None] = {}

    def note(self, before: JsonObject, after: JsonObject | None) -> None:
        """Take note of an event, as it was and as it is now; None if it was taken out."""
        self.kept = after is not None
        if before["event"] == "content-block-delta" and (field := FIELDS.get(before["delta"]["type"])):
            said = Said(
                before["index"], field, before["delta"][field], ((after or {}).get("delta") or {}).get(field) or ""
            )
            self._said.append(said)
            block = self._blocks.setdefault(said.index, Said(said.index, field, "", ""))
            block.before += said.before
            block.after += said.after
        elif before["event"] == "content-block-finish" and after is not None:
            block = self._blocks.get(before["index"])
            if block is not None and (rest := _rest(block, before, after)):
                self._held.append(Said(block.index, block.kind, "", rest))

    def rewrite(self, chunk: AIMessageChunk | None) -> AIMessageChunk | None:
        """Return a chunk as the transformers have left it; without one, what they have held back."""
        said, self._said = self._said, []
        held, self._held = self._held, []
        if chunk is None:
            return self._with(AIMessageChunk(content="", id=self._id), [], held) if held else None
        if not self.kept:
            return None
        self._learn(chunk, said)
        if not held and all(each.before == each.after for each in said):
            return chunk
        return self._with(chunk, said, held)

    def _learn(self, chunk: AIMessageChunk, said: list[Said]) -> None:
        """See how the provider writes the blocks of this message, for what is still to come of them."""
        for kind in ("text", "reasoning"):
            pieces = [each for each in _pieces(chunk.content) if each[1] in PIECES[kind]]
            for each, (piece, field) in zip([one for one in said if one.kind == kind], pieces, strict=False):
                self._shapes[each.index] = {key: piece[key] for key in ("type", "index") if key in piece}, field
        calls = [call for call in chunk.tool_call_chunks if call["args"]]
        for each, call in zip([one for one in said if one.kind == "args"], calls, strict=False):
            self._places[each.index] = call["index"]

    def _with(self, chunk: AIMessageChunk, said: list[Said], held: list[Said]) -> AIMessageChunk:
        words = {kind: iter([each.after for each in said if each.kind == kind]) for kind in PIECES}
        content = _content(chunk.content, words)
        arguments = iter([each.after for each in said if each.kind == "args"])
        calls = [
            {**call, "args": next(arguments, "") if call["args"] else call["args"]} for call in chunk.tool_call_chunks
        ]
        extra = {key: value for key, value in chunk.additional_kwargs.items() if key not in RAW_CALLS}
        if "reasoning_content" in extra:
            extra["reasoning_content"] = "".join(each.after for each in said if each.kind == "reasoning")
        for each in held:
            if each.kind == "args":
                calls.append({**tool_call_chunk(args=each.after, index=cast(Any, self._places.get(each.index)))})
            elif each.index in self._shapes:
                shape, field = self._shapes[each.index]
                content = [
                    *([content] if isinstance(content, str) and content else content or []),
                    {**shape, field: each.after},
                ]
            elif each.kind == "text":
                content = (
                    content + each.after
                    if isinstance(content, str)
                    else [*content, {"type": "text", "text": each.after}]
                )
            else:
                extra["reasoning_content"] = extra.get("reasoning_content", "") + each.after
        fields: dict[str, Any] = {
            name: getattr(chunk, name) for name in type(chunk).model_fields if name not in DERIVED
        }
        fields |= {"content": content, "tool_call_chunks": calls, "additional_kwargs": extra}
        # Not a copy: what is derived from these is derived anew.
        return type(chunk)(**fields)


def _content(content: str | list[Any], words: dict[str, Iterator[str]]) -> Any:
    """Write content again with other words in the same places."""
    if isinstance(content, str):
        return next(words["text"], "") if content else content
    return [_piece(each, words) for each in content]


def _piece(piece: Any, words: dict[str, Iterator[str]]) -> Any:
    if isinstance(piece, str):
        return next(words["text"], "") if piece else piece
    if not isinstance(piece, dict):
        return piece
    written = dict(cast(JsonObject, piece))
    if isinstance(summary := written.get("summary"), list):
        written["summary"] = [
            {**part, "text": next(words["reasoning"], "")} if part.get("text") else part
            for part in cast(list[JsonObject], summary)
        ]
    for kind, fields in PIECES.items():
        for field in fields:
            if isinstance(said := written.get(field), str) and said:
                written[field] = next(words[kind], "")
                break
    return written


def _pieces(content: str | list[Any]) -> Iterator[tuple[JsonObject, str]]:
    """List the pieces of content that say something, and the field in which they do."""
    for piece in content if isinstance(content, list) else ():
        if isinstance(piece, dict):
            said = cast(JsonObject, piece)
            for fields in PIECES.values():
                if field := next((each for each in fields if isinstance(said.get(each), str) and said[each]), None):
                    yield said, field
                    break


def _rest(block: Said, before: JsonObject, after: JsonObject) -> str:
    """Return what transformers have held back of a block until its end: what they let through is not to be taken back."""
    for final in _finals(block, before["content"], after.get("content") or {}):
        if final.startswith(block.after):
            return final[len(block.after) :]
    return ""


def _finals(block: Said, before: JsonObject, after: JsonObject) -> Iterator[str]:
    said = after.get(block.kind)
    if said == before.get(block.kind):
        yield block.before
    elif isinstance(said, str):
        yield said
    elif said is not None:
        # Providers write JSON with and without spaces.
        compact = orjson.dumps(said, default=str).decode()
        yield compact
        yield compact.replace('":', '": ').replace(',"', ', "')
