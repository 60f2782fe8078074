"""The stream modes whose events the SDK has words of its own for: `tools` and `lifecycle`."""

from collections.abc import Iterator
from typing import Any

from durathread.events.subgraphs import Lineage, Namespace
from durathread.graphs.failures import describe
from durathread.records import JsonObject

# By LangGraph's name of an event: the SDK's, and what the event is about in both.
TOOL_EVENTS = {
    "tool-started": ("on_tool_start", "input", "input"),
    "tool-output-delta": ("on_tool_event", "data", "delta"),
    "tool-finished": ("on_tool_end", "output", "output"),
    "tool-error": ("on_tool_error", "error", "message"),
}


class ToolEvents:
    """The tool calls of one step."""

    def __init__(self) -> None:
        """Know of none."""
        self._names: dict[str, str] = {}

    def event(self, data: JsonObject) -> JsonObject:
        """Word what LangGraph says of a tool call. Every event has the tool's name, which LangGraph says once."""
        call_id = data["tool_call_id"]
        if "tool_name" in data:
            self._names[call_id] = data["tool_name"]
        name, theirs, ours = TOOL_EVENTS[data["event"]]
        return {"event": name, "toolCallId": call_id, "name": self._names.get(call_id, ""), theirs: data.get(ours)}


class LifecycleEvents:
    """The subgraphs of one step."""

    def __init__(self) -> None:
        """Know of none."""
        self._lineage = Lineage()

    def events(self, namespace: Namespace, task: JsonObject) -> Iterator[tuple[Namespace, JsonObject]]:
        """Say which subgraphs begin with a task, or are over with it."""
        if "result" not in task:
            found = self._lineage.started(namespace, task)
        else:
            error: Any = task.get("error")
            described = describe(error) if isinstance(error, BaseException) else None
            found = self._lineage.ended(namespace, {**task, "error": described})
        for inner, said in found:
            yield inner, self._worded(inner, said, task)

    def _worded(self, namespace: Namespace, said: JsonObject, task: JsonObject) -> JsonObject:
        worded: JsonObject = {"event": said["event"], "namespace": list(namespace)}
        if (call_id := self._lineage.tool_call(namespace)) is not None:
            worded["tool_call_id"] = call_id
        if said["event"] == "failed":
            worded["error"] = describe(task["error"])
        return worded
