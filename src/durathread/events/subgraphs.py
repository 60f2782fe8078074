"""Which subgraphs a graph runs, told from the tasks it yields: begun at their first task, over with the task around them."""

from collections.abc import Iterator
from typing import Any, cast

from durathread.records import JsonObject

Namespace = tuple[str, ...]


class Lineage:
    """The subgraphs that one step has run."""

    def __init__(self) -> None:
        """Know of none."""
        self._open: dict[Namespace, str | None] = {}
        self._calls: dict[str, str] = {}
        self._names: dict[Namespace, str] = {}

    def started(self, namespace: Namespace, task: JsonObject) -> Iterator[tuple[Namespace, JsonObject]]:
        """Take the beginning of a task, and say which subgraph begins with it."""
        call_id = _tool_call(task.get("input"))
        if call_id is not None:
            self._calls[task["id"]] = call_id
        if not namespace or namespace in self._open:
            return
        name, _, trigger = namespace[-1].partition(":")
        self._open[namespace] = trigger or None
        agent = (task.get("metadata") or {}).get("lc_agent_name")
        data: JsonObject = {"event": "started", "namespace": list(namespace), "graph_name": agent or name}
        self._names[namespace] = agent or name
        if trigger:
            data["trigger_call_id"] = trigger
            if agent is not None and trigger in self._calls:
                data["cause"] = {"type": "toolCall", "tool_call_id": self._calls[trigger]}
        yield namespace, data

    def tool_call(self, namespace: Namespace) -> str | None:
        """Return the id of the tool call that a subgraph was run for, if it was for one."""
        return self._calls.get(namespace[-1].partition(":")[2])

    def ended(self, namespace: Namespace, task: JsonObject) -> Iterator[tuple[Namespace, JsonObject]]:
        """Take the end of a task, and say which subgraphs were its own."""
        for inner in [
            inner for inner, trigger in self._open.items() if inner[:-1] == namespace and trigger == task["id"]
        ]:
            del self._open[inner]
            data: JsonObject = {"event": "completed", "namespace": list(inner), "graph_name": self._names.pop(inner)}
            if task.get("interrupts"):
                data["event"] = "interrupted"
            elif task.get("error"):
                data |= {"event": "failed", "error": str(task["error"])}
            yield inner, data


def _tool_call(given: Any) -> str | None:
    """Find the tool call that a task carries out."""
    if isinstance(given, list) and given:
        given = {"tool_call": cast(list[Any], given)[0]}
    if isinstance(given, dict) and isinstance(call := cast(JsonObject, given).get("tool_call"), dict):
        found = cast(JsonObject, call).get("id")
        return found if isinstance(found, str) else None
    return None
