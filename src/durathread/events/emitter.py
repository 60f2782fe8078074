"""Turns what a graph yields into the events that SDK clients know, one SSE event each."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from langchain_core.messages import BaseMessage, BaseMessageChunk, message_chunk_to_message

from durathread.encode import event_data
from durathread.events import protocol
from durathread.events.model_calls import ModelCalls
from durathread.events.protocol import Protocol
from durathread.events.sdk_events import LifecycleEvents, ToolEvents
from durathread.graphs.failures import describe, masked
from durathread.graphs.progress import Progress
from durathread.records import JsonObject

# What clients ask for, and LangGraph's mode for it.
MODES = {
    "values": "values",
    "updates": "updates",
    "messages": "messages",
    "messages-tuple": "messages",
    "custom": "custom",
    "tasks": "tasks",
    "checkpoints": "checkpoints",
    "debug": "debug",
    "tools": "tools",
    "lifecycle": "tasks",
}

Emit = Callable[[str, bytes], None]
Room = Callable[[], Awaitable[None]]
HIDDEN = "langsmith:hidden"


async def at_once() -> None:
    """Wait for nothing."""


class Emitter:
    """Emits the events of one step of a run, in the modes that the run asked for."""

    def __init__(
        self,
        emit: Emit,
        *,
        modes: Sequence[str],
        subgraphs: bool,
        resumed: bool,
        protocol: Protocol | None = None,
        room: Room = at_once,
    ) -> None:
        """Build an emitter.

        Args:
            emit: takes an event's name and its data as JSON.
            modes: the stream modes that the client asked for.
            subgraphs: whether to emit what happens in subgraphs.
            resumed: whether LangGraph begins by repeating what the step before ended with.
            protocol: takes the same, for those who watch by the protocol.
            room: waits while more has been emitted than is taken.
        """
        self.room = room
        self._protocol = protocol
        self.calls = protocol.calls if protocol is not None else ModelCalls()
        # Asked of LangGraph at the beginning of the step: who comes later cannot change it.
        self.wanted = protocol is not None and protocol.wanted
        self._emit = emit
        self._modes = frozenset(modes)
        self._subgraphs = subgraphs
        self._goes_on = resumed
        self._echo = {"values", "checkpoints", "debug"} if resumed else set[str]()
        self._partial: dict[str, BaseMessage] = {}
        self._announced: set[str] = set()
        # The newest checkpoint of the root graph, as LangGraph describes it.
        self.checkpoint: dict[str, Any] | None = None
        self.progress = Progress()
        self.interrupted = False
        self._questions: dict[str, Any] = {}
        self._tools = ToolEvents()
        self._lifecycle = LifecycleEvents()

    @property
    def langgraph_modes(self) -> list[str]:
        """What to ask of LangGraph.

        `checkpoints` tells where the run stands, `tasks` what has become of the nodes. `custom` makes LangGraph run even a lone task beside its stream, so
        that events come as they happen.
        """
        asked = {MODES[mode] for mode in self._modes if mode in MODES}
        return sorted(asked | {"checkpoints", "custom", "tasks"} | set(protocol.MODES if self.wanted else ()))

    @property
    def subgraphs(self) -> bool:
        """Whether to ask LangGraph for what happens in subgraphs."""
        return self._subgraphs or self.wanted or "lifecycle" in self._modes

    def shows(self, mode: str) -> bool:
        """Whether the client asked for what LangGraph yields in a mode."""
        return mode in {MODES[asked] for asked in self._modes if asked in MODES}

    def metadata(self, run_id: str, attempt: int) -> None:
        """Announce an attempt at the run."""
        self._emit("metadata", event_data({"run_id": run_id, "attempt": attempt}))

    def error(self, error: JsonObject) -> None:
        """Say that the run has failed."""
        self._emit("error", event_data(error))
        if self._protocol is not None:
            self._protocol.fail(error)

    def raw_event(self, event: dict[str, Any]) -> None:
        """Emit an event of LangChain's `astream_events`. The graph begins once, not with each of its steps."""
        begins_again = self._goes_on and event["event"] == "on_chain_start" and not event.get("parent_ids")
        if not begins_again and HIDDEN not in (event.get("tags") or ()):
            if event["event"] == "on_tool_error":
                event = {**event, "data": {**event["data"], "error": masked(event["data"]["error"])}}
            self._emit("events", event_data(event))

    def raw_chunk(self, event: dict[str, Any], namespace: tuple[str, ...], mode: str, data: Any) -> None:
        """Emit the event that says what the graph has yielded, if the client asked for it."""
        if self.shows(mode) and not (not namespace and self._repeats(mode, data)):
            *place, _ = event["data"]["chunk"]
            self.raw_event({**event, "data": {**event["data"], "chunk": (*place, _shaped(mode, data))}})

    def note(self, namespace: tuple[str, ...], mode: str, data: Any) -> None:
        """Take note of what LangGraph yielded, whatever is shown of it."""
        if namespace:
            return
        self.progress.chunk(mode, data)
        if mode == "checkpoints":
            self.checkpoint = cast(dict[str, Any], data)
        if mode in ("values", "updates") and isinstance(data, dict) and "__interrupt__" in data:
            self.interrupted = True

    def repeats(self, namespace: tuple[str, ...], mode: str, data: Any) -> bool:
        """Whether LangGraph yields what the step before ended with."""
        return not namespace and self._repeats(mode, data)

    def chunk(self, namespace: tuple[str, ...], mode: str, data: Any) -> None:
        """Emit what is to be seen of what LangGraph yielded."""
        if not namespace and self._is_echo(mode, data):
            if self._protocol is not None:
                self._protocol.echo(mode, data)
            return
        # `tasks` is always asked for, but not always wanted.
        if self._protocol is not None and (mode != "tasks" or self.wanted or self.shows(mode)):
            self._protocol.chunk(namespace, mode, data)
        if mode == "tasks" and "lifecycle" in self._modes:
            for inner, said in self._lifecycle.events(namespace, data):
                self._emit("|".join(("lifecycle", *inner)), event_data(said))
        if namespace and not self._subgraphs:
            return
        if mode == "messages":
            if self.shows(mode):
                self._messages(namespace, data)
        elif mode == "tools" and mode in self._modes:
            self._emit("|".join((mode, *namespace)), event_data(self._tools.event(data)))
        elif mode in self._modes:
            shaped = self._asking(data) if mode == "values" and not namespace else _shaped(mode, data)
            self._emit("|".join((mode, *namespace)), event_data(shaped))

    def interrupts(self, interrupts: Sequence[JsonObject]) -> None:
        """End the last step, with the interrupts that wait; show one to a client whose modes would not."""
        self.pause(interrupts)
        if interrupts and not self.interrupted and not self._modes & {"values", "updates"}:
            shown = [{"response_schema": None, **interrupt} for interrupt in interrupts]
            self._emit("updates", event_data({"__interrupt__": shown}))

    def pause(self, interrupts: Sequence[JsonObject] = ()) -> None:
        """End a step."""
        if self._protocol is not None:
            self._protocol.finish(interrupts)

    def _asking(self, values: Any) -> Any:
        """Show all questions of a step with the values: LangGraph shows each by itself, and clients keep the last."""
        if not isinstance(values, dict) or "__interrupt__" not in values:
            return values
        asked = cast(dict[str, Any], values)
        self._questions |= {question.id: question for question in asked["__interrupt__"]}
        return {**asked, "__interrupt__": list(self._questions.values())}

    def _is_echo(self, mode: str, data: Any) -> bool:
        if not self._repeats(mode, data):
            return False
        self._echo.discard(mode)
        return True

    def _repeats(self, mode: str, data: Any) -> bool:
        return mode in self._echo and (mode != "debug" or data.get("type") == "checkpoint")

    def _messages(self, namespace: tuple[str, ...], data: Any) -> None:
        message, metadata = cast(tuple[BaseMessage, dict[str, Any]], data)
        if "messages-tuple" in self._modes:
            self._emit("|".join(("messages", *namespace)), event_data([message, metadata]))
            return
        message_id = message.id or ""
        if message_id not in self._announced:
            self._announced.add(message_id)
            self._emit("messages/metadata", event_data({message_id: {"metadata": metadata}}))
        if not isinstance(message, BaseMessageChunk):
            self._emit("messages/complete", event_data([message]))
            return
        seen = self._partial.get(message_id)
        whole = message if seen is None else cast(BaseMessageChunk, seen) + message
        self._partial[message_id] = whole
        self._emit("messages/partial", event_data([message_chunk_to_message(whole)]))


def _shaped(mode: str, data: Any) -> Any:
    if mode == "checkpoints":
        return _checkpoint(data)
    if mode == "tasks":
        return _task(data)
    if mode == "debug":
        payload = data["payload"]
        if data["type"] == "checkpoint":
            shaped = _checkpoint(payload)
            payload = {
                **shaped,
                "checkpoint": _address(payload["config"]),
                "parent_checkpoint": _address(payload["parent_config"]),
            }
        else:
            payload = _task(payload)
        return {**data, "payload": payload}
    return data


def _checkpoint(payload: dict[str, Any]) -> dict[str, Any]:
    return {
        **payload,
        "config": _public(payload["config"]),
        "parent_config": _public(payload["parent_config"]),
        "tasks": [_task(task) for task in payload["tasks"]],
    }


def _task(payload: dict[str, Any]) -> dict[str, Any]:
    error = payload.get("error")
    if error is None:
        return payload
    return {**payload, "error": describe(error)["message"] if isinstance(error, BaseException) else masked(error)}


def _public(config: dict[str, Any] | None) -> dict[str, Any] | None:
    """Drop what only the server and its graphs should see: who asked, and the internals of LangGraph."""
    if config is None:
        return None
    kept = {
        key: value
        for key, value in config.get("configurable", {}).items()
        if not key.startswith(("__", "langgraph_auth", "langgraph_request"))
    }
    return {"configurable": kept}


def _address(config: dict[str, Any] | None) -> dict[str, Any] | None:
    if config is None:
        return None
    keys = ("thread_id", "checkpoint_ns", "checkpoint_id", "checkpoint_map")
    return {key: config["configurable"][key] for key in keys if key in config["configurable"]}
