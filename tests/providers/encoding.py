"""Replies, as OpenAI and Anthropic send them."""

import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from tests.providers.conversation import Reply

Event = tuple[str | None, Any]

PAUSE: Event = ("pause", None)
"""Where a reply may be held: a client has its first part by then."""


def chunks(reply: Reply) -> list[str]:
    """Cut a text into words."""
    return re.findall(r"\S+\s*|^\s+", reply.text)


def arguments(reply: Reply) -> list[tuple[str, str, str]]:
    """Name the calls, each with an id and its arguments."""
    return [(f"call_{uuid4().hex[:12]}", call.name, json.dumps(call.args)) for call in reply.calls]


def numbered(events: Iterator[Event]) -> Iterator[Event]:
    """Give each event its type and its number, as OpenAI's responses and Anthropic have them."""
    for number, (name, data) in enumerate(events):
        yield (name, data) if data is None else (name, {"type": name, "sequence_number": number, **data})


def completion(reply: Reply) -> Any:
    """Answer as OpenAI's chat completions."""
    calls = [
        {"id": key, "type": "function", "function": {"name": name, "arguments": text}}
        for key, name, text in arguments(reply)
    ]
    message = {"role": "assistant", "content": reply.text or None, **({"tool_calls": calls} if calls else {})}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
    return {**_completion(), "object": "chat.completion", "choices": [choice], "usage": _completion_usage(reply)}


def completion_stream(reply: Reply) -> Iterator[Event]:
    """Answer as OpenAI's chat completions, part by part."""
    base = {**_completion(), "object": "chat.completion.chunk"}

    def said(delta: Any, reason: str | None = None) -> Event:
        return None, {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], "usage": None}

    yield said({"role": "assistant", "content": None if reply.calls else ""})
    for number, word in enumerate(chunks(reply)):
        yield said({"content": word})
        if not number:
            yield PAUSE
    for number, (key, name, text) in enumerate(arguments(reply)):
        call = {"index": number, "id": key, "type": "function", "function": {"name": name, "arguments": ""}}
        yield said({"tool_calls": [call]})
        for part in (text[:6], text[6:]):
            yield said({"tool_calls": [{"index": number, "function": {"arguments": part}}]})
    yield said({}, "tool_calls" if reply.calls else "stop")
    yield None, {**base, "choices": [], "usage": _completion_usage(reply)}
    yield None, "[DONE]"


def _completion() -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid4().hex}", "created": 1, "model": "gpt-4o"}


def _completion_usage(reply: Reply) -> Any:
    words = len(chunks(reply))
    return {"prompt_tokens": 1, "completion_tokens": words, "total_tokens": words + 1}


def response(reply: Reply) -> Any:
    """Answer as OpenAI's responses."""
    base, items = _response(reply)
    return {**base, "status": "completed", "output": items, "usage": _usage(reply)}


def response_stream(reply: Reply) -> Iterator[Event]:
    """Answer as OpenAI's responses, part by part."""
    base, items = _response(reply)

    def events() -> Iterator[Event]:
        yield "response.created", {"response": {**base, "status": "in_progress", "output": [], "usage": None}}
        for index, item in enumerate(items):
            yield from _item(reply, item, index)
        yield (
            "response.completed",
            {"response": {**base, "status": "completed", "output": items, "usage": _usage(reply)}},
        )

    return numbered(events())


def _item(reply: Reply, item: Any, index: int) -> Iterator[Event]:
    called = item["type"] == "function_call"
    empty = {**item, "status": "in_progress", **({"arguments": ""} if called else {"content": []})}
    yield "response.output_item.added", {"output_index": index, "item": empty}
    at = {"item_id": item["id"], "output_index": index}
    if called:
        for piece in (item["arguments"][:6], item["arguments"][6:]):
            yield "response.function_call_arguments.delta", {**at, "delta": piece}
        yield "response.function_call_arguments.done", {**at, "arguments": item["arguments"]}
    else:
        inside, part = {**at, "content_index": 0}, item["content"][0]
        yield "response.content_part.added", {**inside, "part": {**part, "text": ""}}
        for number, word in enumerate(chunks(reply)):
            yield "response.output_text.delta", {**inside, "delta": word, "logprobs": []}
            if not number:
                yield PAUSE
        yield "response.output_text.done", {**inside, "text": reply.text, "logprobs": []}
        yield "response.content_part.done", {**inside, "part": part}
    yield "response.output_item.done", {"output_index": index, "item": item}


def _response(reply: Reply) -> tuple[dict[str, Any], list[Any]]:
    part = {"type": "output_text", "text": reply.text, "annotations": []}
    message = {"type": "message", "id": f"msg_{uuid4().hex}", "role": "assistant"}
    items: list[Any] = [{**message, "status": "completed", "content": [part]}] if reply.text else []
    for key, name, text in arguments(reply):
        call = {"type": "function_call", "id": f"fc_{key}", "call_id": key, "name": name, "arguments": text}
        items.append({**call, "status": "completed"})
    base: dict[str, Any] = {
        "id": f"resp_{uuid4().hex}",
        "object": "response",
        "created_at": 1,
        "model": "gpt-4o",
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "temperature": 1,
        "top_p": 1,
    }
    return base, items


def _usage(reply: Reply) -> Any:
    words = len(chunks(reply))
    return {
        "input_tokens": 1,
        "output_tokens": words,
        "total_tokens": words + 1,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }


def message(reply: Reply) -> Any:
    """Answer as Anthropic's messages."""
    return {**_message(), **_ending(reply), "content": _blocks(reply), "usage": _message_usage(reply)}


def message_stream(reply: Reply) -> Iterator[Event]:
    """Answer as Anthropic's messages, part by part."""

    def events() -> Iterator[Event]:
        usage = {**_message_usage(reply), "output_tokens": 1}
        start = {**_message(), "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        yield "message_start", {"message": start}
        for index, block in enumerate(_blocks(reply)):
            yield from _block(reply, block, index)
        yield "message_delta", {"delta": _ending(reply), "usage": _message_usage(reply)}
        yield "message_stop", {}

    return numbered(events())


def _block(reply: Reply, block: Any, index: int) -> Iterator[Event]:
    called = block["type"] == "tool_use"
    empty = {**block, **({"input": {}} if called else {"text": ""})}
    yield "content_block_start", {"index": index, "content_block": empty}
    if called:
        text = json.dumps(block["input"])
        for piece in (text[:6], text[6:]):
            yield "content_block_delta", {"index": index, "delta": {"type": "input_json_delta", "partial_json": piece}}
    else:
        for number, word in enumerate(chunks(reply)):
            yield "content_block_delta", {"index": index, "delta": {"type": "text_delta", "text": word}}
            if not number:
                yield PAUSE
    yield "content_block_stop", {"index": index}


def _message() -> dict[str, Any]:
    return {"id": f"msg_{uuid4().hex}", "type": "message", "role": "assistant", "model": "claude-test"}


def _ending(reply: Reply) -> dict[str, Any]:
    return {"stop_reason": "tool_use" if reply.calls else "end_turn", "stop_sequence": None}


def _message_usage(reply: Reply) -> dict[str, int]:
    return {"input_tokens": 1, "output_tokens": len(chunks(reply))}


def _blocks(reply: Reply) -> list[Any]:
    text = [{"type": "text", "text": reply.text}] if reply.text else []
    used = [
        {"type": "tool_use", "id": f"toolu_{uuid4().hex[:12]}", "name": call.name, "input": call.args}
        for call in reply.calls
    ]
    return [*text, *used]
