"""What a graph never keeps in a checkpoint, and yet finds until the end of its run: LangGraph's `UntrackedValue`.

LangChain's middleware counts a run's calls of models and tools with it, and holds a shell. Each step of a run is a call of
LangGraph, which begins without these values; so they are carried from step to step beside the checkpoints.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Self, cast
from uuid import UUID

from langgraph.channels import UntrackedValue

from durathread.graphs.registry import Graph
from durathread.records import JsonObject

Values = dict[str, Any]

# What other runs left behind when they went on elsewhere is forgotten then.
KEPT = 1000
# More than so many numbers under one name do not leave the process.
MOST = 100


class Carried(UntrackedValue[Any]):
    """A channel that begins with what the step before has left in it."""

    __slots__ = ("values",)

    def __init__(self, typ: Any, guard: bool = True, *, values: Values | None = None) -> None:
        """Take values by their channels' names, and keep them up to date."""
        super().__init__(typ, guard)
        self.values: Values = {} if values is None else values

    def copy(self) -> Self:
        """Return a copy that does not tell anybody of its updates."""
        copied = self.__class__(self.typ, self.guard)
        copied.key, copied.value = self.key, self.value
        return copied

    def from_checkpoint(self, checkpoint: Any) -> Self:
        """Begin with the value of the step before."""
        begun = self.__class__(self.typ, self.guard, values=self.values)
        begun.key = self.key
        if self.key in self.values:
            begun.value = self.values[self.key]
        return begun

    def update(self, values: Sequence[Any]) -> bool:
        """Note a value for the step to come."""
        updated = super().update(values)
        if updated:
            self.values[self.key] = self.value
        return updated


def carries(graph: Graph) -> bool:
    """Say whether a graph has values that its checkpoints do not keep."""
    return any(isinstance(channel, UntrackedValue) for channel in graph.channels.values())


def carrying(graph: Graph, values: Values) -> Graph:
    """Return a graph that begins with these values, and keeps them up to date."""
    carried: dict[str, Any] = {}
    for name, channel in graph.channels.items():
        if isinstance(channel, UntrackedValue):
            carried[name] = Carried(channel.typ, channel.guard, values=values)
            carried[name].key = name
    return graph.copy({"channels": {**graph.channels, **carried}}) if carried else graph


class Untracked:
    """The values of runs whose next step is to come."""

    def __init__(self) -> None:
        """Begin with none."""
        self._kept: OrderedDict[UUID, tuple[int, Values]] = OrderedDict()

    def take(self, run_id: UUID, step: int, counts: JsonObject) -> Values:
        """Return what the step before has left: all of it in this process, counts in any."""
        kept = self._kept.get(run_id)
        return {**counts, **(kept[1] if kept is not None and kept[0] == step else {})}

    def keep(self, run_id: UUID, step: int, values: Values) -> JsonObject:
        """Leave values to the step of that number, and return those that may go to another process."""
        self.drop(run_id)
        if values:
            self._kept[run_id] = step, dict(values)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return {name: value for name, value in values.items() if _counts(value)}

    def drop(self, run_id: UUID) -> None:
        """Forget a run."""
        self._kept.pop(run_id, None)


def _counts(value: Any) -> bool:
    """Say whether a value is but numbers: it would be read by all who read Temporal's history, and texts may be secret."""
    if isinstance(value, dict):
        inner = cast(dict[Any, Any], value)
        return len(inner) <= MOST and all(isinstance(key, str) and _is_number(each) for key, each in inner.items())
    return _is_number(value)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and abs(value) < 2**53)
