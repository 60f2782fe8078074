"""What an attempt at a run has left open among the frames of its thread when its worker died."""

from dataclasses import dataclass, field
from typing import Any, cast

import orjson
from redis.asyncio import Redis

from durathread.streams.events import stream_key
from durathread.streams.frames import PAGE, Named, frames_subject

CHANNELS = (b"messages", b"tools", b"lifecycle")


@dataclass
class OpenMessage:
    """A message that has started and not finished, with the number of its blocks."""

    namespace: tuple[str, ...]
    node: str | None
    message_id: str
    blocks: int = 0


@dataclass
class OpenTool:
    """A tool that has started and not finished."""

    namespace: tuple[str, ...]
    call_id: str


@dataclass
class Unfinished:
    """All that is open of a run."""

    messages: dict[str, OpenMessage] = field(default_factory=dict[str, OpenMessage])
    tools: dict[str, OpenTool] = field(default_factory=dict[str, OpenTool])

    def read(self, event: dict[str, Any]) -> None:
        """Take the next event of the run."""
        params = event["params"]
        data = params["data"]
        namespace = tuple(params["namespace"])
        if event["method"] == "messages":
            self._message(data, namespace, params.get("node"))
        elif event["method"] == "tools" and data["event"] == "tool-started":
            self.tools[data["tool_call_id"]] = OpenTool(namespace, data["tool_call_id"])
        elif event["method"] == "tools" and data["event"] != "tool-output-delta":
            self.tools.pop(data["tool_call_id"], None)

    def _message(self, data: dict[str, Any], namespace: tuple[str, ...], node: str | None) -> None:
        message_id = data["id"]
        if data["event"] == "message-start":
            self.messages[message_id] = OpenMessage(namespace, node, message_id)
        elif data["event"] == "content-block-start" and message_id in self.messages:
            self.messages[message_id].blocks = data["index"] + 1
        elif data["event"] in ("message-finish", "error"):
            self.messages.pop(message_id, None)


async def unfinished(redis: "Redis", run: Named) -> Unfinished:
    """Read what is open of a run. Reads all its frames, so only for runs whose worker has died.

    Raises:
        RedisError: Valkey is unavailable.
    """
    found = list[dict[str, Any]]()
    upper = "+"
    first = f"{run.run_id}-running"
    while page := cast(
        list[tuple[bytes, dict[bytes, bytes]]],
        await redis.xrevrange(stream_key(frames_subject(run.thread_id)), upper, "-", count=PAGE),
    ):
        for entry_id, fields in page:
            upper = f"({entry_id.decode()}"
            if not fields[b"e"].startswith(CHANNELS):
                continue
            event = orjson.loads(fields[b"d"])
            if event["event_id"] == first:
                return _replayed(found)
            if event["event_id"].startswith(run.run_id):
                found.append(event)
    return _replayed(found)


def _replayed(newest_first: list[dict[str, Any]]) -> Unfinished:
    left = Unfinished()
    for event in reversed(newest_first):
        left.read(event)
    return left
