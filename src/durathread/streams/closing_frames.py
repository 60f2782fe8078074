"""Ends, on a thread's stream, what a run has left open there that others than its own step have ended."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, cast

from redis.asyncio import Redis

from durathread.records import Json, JsonObject
from durathread.streams.events import state_key
from durathread.streams.frames import HALT, Frame, Named, frame, frames_subject
from durathread.streams.open_items import Namespace, Unfinished, unfinished

# The codes of errors: of what shall be forgotten, and of what is as far as it came.
SUPERSEDED = "superseded"
CANCELLED = "cancelled"
UNDONE = "The run was rolled back."
STOPPED = "The run was cancelled."
LOST = "Its worker died: the state has what it became."
OPEN = (b"on", b"halted")

Said = tuple[str, JsonObject, Namespace, str | None]


async def halted(redis: "Redis", run: Named) -> Unfinished | None:
    """Let nobody but us write of a run any more, and return what it has left open; None if it has not begun, or is over.

    Raises:
        RedisError: Valkey is unavailable.
    """
    state = state_key(frames_subject(run.thread_id))
    if not await cast(Any, redis.eval(HALT, 1, state, run.run_id)):
        return None
    return await unfinished(redis, run)


async def left_open(redis: "Redis", thread_id: str) -> list[str]:
    """List the runs whose end a thread's stream does not have.

    Raises:
        RedisError: Valkey is unavailable.
    """
    state = await cast(Any, redis.hgetall(state_key(frames_subject(thread_id))))
    return [name.decode() for name, value in state.items() if value in OPEN]


def closing(run: Named, left: Unfinished, status: str, *, before: Json = None, error: str | None = None) -> list[Frame]:
    """Close what a run has left open; its own end comes next.

    Args:
        run: halted.
        left: what is open of it.
        status: how it has ended.
        before: the state that is now the thread's, if the run was rolled back or its own end was lost.
        error: its text.
    """
    if status == "rollback":
        said = itertools.chain(retracted(left, UNDONE), _graphs(left), _undone(left, before))
    elif status == "success":
        said = itertools.chain(retracted(left, LOST), _graphs(left), [_values(before)])
    elif status == "interrupted":
        said = itertools.chain(_broken_off(left, {"message": STOPPED, "code": CANCELLED}), _graphs(left))
    else:
        said = itertools.chain(_broken_off(left, {"message": error or status}), _graphs(left))
    return [
        frame(run, "close", f"{run.run_id}-closed-{number}", method=method, data=data, namespace=namespace, node=node)
        for number, (method, data, namespace, node) in enumerate(said, start=1)
    ]


def retracted(left: Unfinished, reason: str) -> Iterator[Said]:
    """Take back the messages that are open, and end the tools."""
    for message in left.messages.values():
        for data in dropped(message.message_id, message.blocks, reason):
            yield "messages", data, message.namespace, message.node
    yield from _tools(left, {"message": reason, "code": SUPERSEDED})


def dropped(message_id: str, blocks: int, reason: str) -> Iterator[JsonObject]:
    """Return the events that take back a message: its blocks become empty, then it ends in an error.

    Both, since some readers drop a message that ends in an error, and some show what its blocks last were.
    """
    for index in range(blocks):
        content = {"type": "text", "text": ""}
        yield {"event": "content-block-finish", "id": message_id, "index": index, "content": content}
    yield {"event": "error", "id": message_id, "message": reason, "code": SUPERSEDED}


def _broken_off(left: Unfinished, why: JsonObject) -> Iterator[Said]:
    """End messages where they are: what they say stays on the page."""
    for message in left.messages.values():
        yield "messages", {"event": "error", "id": message.message_id, **why}, message.namespace, message.node
    yield from _tools(left, why)


def _tools(left: Unfinished, why: JsonObject) -> Iterator[Said]:
    for tool in left.tools.values():
        yield "tools", {"event": "tool-error", "tool_call_id": tool.call_id, **why}, tool.namespace, None


def _graphs(left: Unfinished) -> Iterator[Said]:
    """End subgraphs, the inner ones first."""
    for namespace, name in sorted(left.graphs.items(), key=lambda item: -len(item[0])):
        data = {"event": "interrupted", "namespace": list(namespace), "graph_name": name}
        yield "lifecycle", data, namespace, None


def _undone(left: Unfinished, before: Json) -> Iterator[Said]:
    """Show the state before a run.

    JavaScript's readers take a message away when a state that had it is followed by one that has not, and never one that
    no state has had: so they are first shown one that has all the messages of the run, without their words.
    """
    state: JsonObject = cast(JsonObject, before) if isinstance(before, dict) else {}
    kept = cast(Sequence[Any], state.get("messages") or [])
    known = {cast(JsonObject, message).get("id") for message in kept if isinstance(message, dict)}
    gone = [{"type": "ai", "id": message_id, "content": ""} for message_id in left.begun if message_id not in known]
    if gone and left.lists_messages:
        yield _values({**state, "messages": [*kept, *gone]})
    yield _values(state)


def _values(state: Json) -> Said:
    return "values", cast(JsonObject, state or {}), (), None
