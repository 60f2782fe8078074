"""A scripted endpoint in the place of OpenAI and of Anthropic, that real clients talk to. It answers with what it is asked."""

import json
import threading
import time
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.stack import free_port

Event = tuple[str | None, Any]


@contextmanager
def providers() -> Generator[str]:
    """Listen for as long as the block lasts, and name where. On a thread: nodes may block the loop that they are run on."""
    port = free_port()
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", completions, methods=["POST"]),
            Route("/v1/responses", responses, methods=["POST"]),
            Route("/v1/messages", anthropic, methods=["POST"]),
        ]
    )
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", lifespan="off", loop="asyncio")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


def asked(body: dict[str, Any]) -> list[str]:
    """Read the words of the last message."""
    last: Any = (body.get("messages") or body["input"])[-1]["content"]
    text = last if isinstance(last, str) else last[-1]["text"]
    return [f"{word} " for word in text.split()]


def sent(events: Iterator[Event]) -> Response:
    """Send events as both providers do."""

    async def body() -> AsyncGenerator[str]:
        for name, data in events:
            head = f"event: {name}\n" if name else ""
            yield f"{head}data: {data if isinstance(data, str) else json.dumps(data)}\n\n"

    return StreamingResponse(body(), media_type="text/event-stream")


async def completions(request: Request) -> Response:
    """Answer as OpenAI's chat completions."""
    body = await request.json()
    words = asked(body)
    usage = {"prompt_tokens": 1, "completion_tokens": len(words), "total_tokens": len(words) + 1}
    tool = body.get("tools") and body["tools"][0]["function"]["name"]
    arguments = json.dumps({"text": "".join(words)})
    base = {"id": f"chatcmpl-{uuid4().hex}", "created": 1, "model": "gpt-4o"}
    if not body.get("stream"):
        call = {"id": "call_1", "type": "function", "function": {"name": tool, "arguments": arguments}}
        message = {
            "role": "assistant",
            "content": None if tool else "".join(words),
            **({"tool_calls": [call]} if tool else {}),
        }
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if tool else "stop"}
        return JSONResponse({**base, "object": "chat.completion", "choices": [choice], "usage": usage})

    def events() -> Iterator[Event]:
        def said(delta: Any, reason: str | None = None) -> Event:
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            return None, {**base, "object": "chat.completion.chunk", "choices": [choice], "usage": None}

        yield said({"role": "assistant", "content": "" if not tool else None})
        if tool:
            call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": tool, "arguments": ""}}
            yield said({"tool_calls": [call]})
            for part in (arguments[:6], arguments[6:]):
                yield said({"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
        else:
            for word in words:
                yield said({"content": word})
        yield said({}, "tool_calls" if tool else "stop")
        yield None, {**base, "object": "chat.completion.chunk", "choices": [], "usage": usage}
        yield None, "[DONE]"

    return sent(events())


async def responses(request: Request) -> Response:
    """Answer as OpenAI's responses."""
    body = await request.json()
    words = asked(body)
    text = "".join(words)
    tool = body.get("tools") and body["tools"][0]["name"]
    arguments = json.dumps({"text": text})
    part = {"type": "output_text", "text": text, "annotations": []}
    item: dict[str, Any] = (
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call_1",
            "name": tool,
            "arguments": arguments,
            "status": "completed",
        }
        if tool
        else {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
    )
    usage = {
        "input_tokens": 1,
        "output_tokens": len(words),
        "total_tokens": len(words) + 1,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
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
    whole = {**base, "status": "completed", "output": [item], "usage": usage}
    if not body.get("stream"):
        return JSONResponse(whole)

    def events() -> Iterator[Event]:
        yield "response.created", {"response": {**base, "status": "in_progress", "output": [], "usage": None}}
        yield (
            "response.output_item.added",
            {
                "output_index": 0,
                "item": {**item, "status": "in_progress", **({"arguments": ""} if tool else {"content": []})},
            },
        )
        at = {"item_id": item["id"], "output_index": 0}
        if tool:
            for piece in (arguments[:6], arguments[6:]):
                yield "response.function_call_arguments.delta", {**at, "delta": piece}
            yield "response.function_call_arguments.done", {**at, "arguments": arguments}
        else:
            inside = {**at, "content_index": 0}
            yield "response.content_part.added", {**inside, "part": {**part, "text": ""}}
            for word in words:
                yield "response.output_text.delta", {**inside, "delta": word, "logprobs": []}
            yield "response.output_text.done", {**inside, "text": text, "logprobs": []}
            yield "response.content_part.done", {**inside, "part": part}
        yield "response.output_item.done", {"output_index": 0, "item": item}
        yield "response.completed", {"response": whole}

    numbered = ((name, {"type": name, "sequence_number": n, **data}) for n, (name, data) in enumerate(events()))
    return sent(numbered)


async def anthropic(request: Request) -> Response:
    """Answer as Anthropic's messages."""
    body = await request.json()
    words = asked(body)
    tool = body.get("tools") and body["tools"][0]["name"]
    given = {"text": "".join(words)}
    base: dict[str, Any] = {"id": f"msg_{uuid4().hex}", "type": "message", "role": "assistant", "model": "claude-test"}
    ending = {"stop_reason": "tool_use" if tool else "end_turn", "stop_sequence": None}
    usage = {"input_tokens": 1, "output_tokens": len(words)}
    block: dict[str, Any] = (
        {"type": "tool_use", "id": "call_1", "name": tool, "input": given}
        if tool
        else {"type": "text", "text": "".join(words)}
    )
    if not body.get("stream"):
        return JSONResponse({**base, **ending, "content": [block], "usage": usage})

    def events() -> Iterator[Event]:
        start = {
            **base,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {**usage, "output_tokens": 1},
        }
        yield "message_start", {"message": start}
        empty = {**block, **({"input": {}} if tool else {"text": ""})}
        yield "content_block_start", {"index": 0, "content_block": empty}
        if tool:
            text = json.dumps(given)
            for piece in (text[:6], text[6:]):
                yield "content_block_delta", {"index": 0, "delta": {"type": "input_json_delta", "partial_json": piece}}
        else:
            for word in words:
                yield "content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": word}}
        yield "content_block_stop", {"index": 0}
        yield "message_delta", {"delta": ending, "usage": usage}
        yield "message_stop", {}

    return sent((name, {"type": name, **data}) for name, data in events())
