"""What a run has left open among the frames of its thread: its worker died, or others have ended it."""

from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

from redis.asyncio import Redis

from durathread.encode import loads
from durathread.records import JsonObject
from durathread.streams.events import stream_key
from durathread.streams.frames import Named, beginning, frames_subject, is_of
from durathread.streams.read_pages import newest_first

CHANNELS = (b"messages", b"tools", b"lifecycle")
# A quotation mark inside of a text is escaped: only an event can have this.
DELTA = b'"event":"content-block-delta"'
ROOT_VALUES = b"values"

Namespace = tuple[str, ...]


@dataclass
class OpenMessage:
    """A message that has started and not finished, with the number of its blocks."""

    namespace: Namespace
    node: str | None
    message_id: str
    blocks: int = 0


@dataclass
class OpenTool:
    """A tool that has started and not finished."""

    namespace: Namespace
    call_id: str


@dataclass
class Unfinished:
    """All that is open of a run, and what is to be known of the rest."""

    graph_name: str = ""
    messages: dict[str, OpenMessage] = field(default_factory=dict[str, OpenMessage])
    tools: dict[str, OpenTool] = field(default_factory=dict[str, OpenTool])
    graphs: dict[Namespace, str] = field(default_factory=dict[Namespace, str])
    # Every message that was begun, and whether the state of the run lists its messages.
    begun: list[str] = field(default_factory=list[str])
    lists_messages: bool = False

    def read(self, event: JsonObject) -> None:
        """Take the next event of the run."""
        params = event["params"]
        data, namespace = params["data"], tuple(params["namespace"])
        if event["method"] == "messages":
            self._message(data, namespace, params.get("node"))
        elif event["method"] == "tools":
            self._tool(data, namespace)
        elif event["method"] == "lifecycle":
            self._lifecycle(data, namespace)
        else:
            self.lists_messages = isinstance(data, dict) and isinstance(cast(JsonObject, data).get("messages"), list)

    def _message(self, data: JsonObject, namespace: Namespace, node: str | None) -> None:
        message_id = data["id"]
        if data["event"] == "message-start":
            self.messages[message_id] = OpenMessage(namespace, node, message_id)
            self.begun.append(message_id)
        elif data["event"] == "content-block-start" and message_id in self.messages:
            self.messages[message_id].blocks = data["index"] + 1
        elif data["event"] in ("message-finish", "error"):
            self.messages.pop(message_id, None)

    def _tool(self, data: JsonObject, namespace: Namespace) -> None:
        if data["event"] == "tool-started":
            self.tools[data["tool_call_id"]] = OpenTool(namespace, data["tool_call_id"])
        elif data["event"] != "tool-output-delta":
            self.tools.pop(data["tool_call_id"], None)

    def _lifecycle(self, data: JsonObject, namespace: Namespace) -> None:
        if not namespace:
            self.graph_name = data["graph_name"]
        elif data["event"] == "started":
            self.graphs[namespace] = data["graph_name"]
        else:
            self.graphs.pop(namespace, None)


async def unfinished(redis: "Redis", run: Named) -> Unfinished:
    """Read what is open of a run. Reads all its frames, so only for runs that did not end by themselves.

    Raises:
        RedisError: Valkey is unavailable.
    """
    found = list[JsonObject]()
    values_known = False
    first = beginning(run)
    async with aclosing(newest_first(redis, stream_key(frames_subject(run.thread_id)))) as entries:
        async for _, fields in entries:
            wanted = fields[b"e"].startswith(CHANNELS) or (fields[b"e"] == ROOT_VALUES and not values_known)
            if not wanted or DELTA in fields[b"d"]:
                continue
            event: dict[str, Any] = loads(fields[b"d"])
            if is_of(event["event_id"], run.run_id):
                found.append(event)
                values_known = values_known or event["method"] == "values"
            if event["event_id"] == first:
                break
    return _replayed(found)


def _replayed(newest_first: list[JsonObject]) -> Unfinished:
    left = Unfinished()
    for event in reversed(newest_first):
        left.read(event)
    return left
