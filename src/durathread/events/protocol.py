"""Turns what a graph yields in one step into frames of the streaming protocol.

The events of a run are worked out only while they are wanted: always, if the run was started by the protocol; of other
runs while somebody watches their thread. Until then it is only remembered what a watcher who comes now must be told.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

from langchain_core.messages import BaseMessage

from durathread.events.messages import Messages, Namespace
from durathread.events.model_calls import ModelCalls
from durathread.events.subgraphs import Lineage
from durathread.graphs.failures import describe
from durathread.records import JsonObject, Run
from durathread.streams.closing_frames import retracted
from durathread.streams.frames import Frame, Kind, Named, frame, requested, running
from durathread.streams.open_items import Unfinished

# What is asked of LangGraph for it.
MODES = ("values", "updates", "messages", "tools", "tasks", "checkpoints", "custom")
RETRIED = "Its worker died: what it was part of is done again."

# Beside the update of a node that LangGraph has not run again.
CACHED = "__metadata__"

Send = Callable[[Sequence[Frame]], None]


class Protocol:
    """The frames of one step of a run. Used on the graphs' loop."""

    def __init__(self, run: Run, send: Send, *, wanted: bool, resumed: bool) -> None:
        """Build one.

        Args:
            run: as claimed.
            send: writes frames that belong together.
            wanted: whether somebody watches.
            resumed: whether LangGraph begins by repeating what the step before ended with.
        """
        self.wanted = wanted
        self._closed = False
        self._run = Named.of(run)
        self._graph = run.graph_id
        # An attempt at a step has a number of its own, so no two events ever have the same id.
        self._ids = (f"{run.run_id}-{run.attempt}-{number}" for number in itertools.count(1))
        self._send = send
        self._echoing = resumed
        # Whether this run may have less than was shown before: it goes back, or what went before it was undone.
        self._forked = forks(run)
        self._anew = self._forked or (run.strategy == "rollback" and not resumed)
        self._undone: Any = None
        # Checkpoints that wait for the state that goes before them.
        self._ahead: list[JsonObject] = []
        self._lineage = Lineage()
        self._values: Any = None
        # Whether somebody came within this step: LangGraph may not have been asked for all that they want.
        self._late = False
        self._held: tuple[Namespace, Any] | None = None
        self.calls = ModelCalls()
        self._messages = Messages(self._emit_all, self.calls)
        self._requests: dict[str, Frame] = {}
        if wanted and not resumed:
            self._begin()

    def watched(self) -> None:
        """Begin to show a run that nobody watched: say how far it has come, and go on."""
        if self.wanted or self._closed:
            return
        self.wanted = self._late = True
        self._echoing = False
        self._begin()
        self._messages.recall()

    def close(self) -> None:
        """Take nothing more: the step is over, and others may have begun the next, or ended the run."""
        self._closed = True

    def echo(self, mode: str, data: Any) -> None:
        """Take what LangGraph repeats of the step before: shown before, unless this is the first step to be watched."""
        if mode not in ("values", "checkpoints"):
            return
        known, self._values = self._values, data["values"] if mode == "checkpoints" else data
        if mode == "values" and self.wanted and self._echoing:
            self._echoing = False
            self._begin()
        elif self._late and known is None:
            self._emit("values", _state(self._values))

    def chunk(self, namespace: Namespace, mode: str, data: Any) -> None:
        """Take what LangGraph yielded."""
        if not self.wanted:
            self._remember(namespace, mode, data)
            return
        if self._echoing:
            self._echoing = False
            self._begin()
        if mode != "checkpoints":
            self._release()
        match mode:
            case "values":
                self._held = namespace, data
            case "checkpoints":
                self._checkpoint(namespace, data)
            case "updates":
                self._updates(namespace, data)
            case "messages":
                self._messages.take(namespace, *cast(tuple[BaseMessage, JsonObject], data))
            case "tasks":
                self._task(namespace, data)
            case "tools":
                self._emit("tools", data, namespace)
            case "custom":
                self._custom(namespace, data)
            case "channel":
                name, payload = cast(tuple[str, Any], data)
                self._emit("custom", {"name": name, "payload": payload}, channel=f"custom:{name}")
            case _:
                pass

    @property
    def requests(self) -> list[Frame]:
        """The questions that wait for an answer: to be shown when an answer is taken, after the row of the run says so."""
        return list(self._requests.values())

    def finish(self, interrupts: Sequence[JsonObject]) -> None:
        """End the step; `interrupts` are those that wait for an answer, if the run has come to rest."""
        if not self.wanted:
            return
        self._release()
        self._follow()
        self._messages.finish()
        self._interrupts((), interrupts)

    def fail(self, error: JsonObject) -> None:
        """End what a failure has left open."""
        if not self.wanted:
            return
        self._release()
        self._follow()
        self._messages.fail(error["message"])

    def undoes(self, values: Any) -> None:
        """Take the state that this run undoes, if readers may not have taken note of all of it."""
        self._undone = values

    def drop(self, left: Unfinished) -> None:
        """Take back what an attempt before this has left open."""
        for method, data, namespace, node in retracted(left, RETRIED):
            self._emit(method, data, namespace, node=node)

    def _begin(self) -> None:
        first = [running(self._run, self._graph)]
        if self._values is not None:
            first.append(self._frame("values", _state(self._values), kind="catch_up"))
        self._send(first)

    def _remember(self, namespace: Namespace, mode: str, data: Any) -> None:
        if mode in ("values", "checkpoints") and not namespace:
            self._values = data["values"] if mode == "checkpoints" else data
        elif mode == "messages":
            self._messages.remember(namespace, *cast(tuple[BaseMessage, JsonObject], data))

    def _release(self) -> None:
        """Emit the values that waited for the checkpoint that goes before them."""
        if self._held is None:
            return
        (namespace, data), self._held = self._held, None
        if not namespace:
            if self._late:
                self._messages.catch_up(data, before=self._values)
            self._values = data
            if self._ahead:
                # Without a checkpoint: next to one, JavaScript's readers take this for older than what was undone.
                if self._undone is not None:
                    self._emit("values", self._undone)
                    self._undone = None
                self._emit("values", _state(data))
                self._follow()
                self._anew = self._forked
        self._emit("values", _state(data), namespace)
        if isinstance(data, dict):
            self._interrupts(namespace, _interrupts_of(cast(JsonObject, data)))

    def _interrupts(self, namespace: Namespace, interrupts: Iterable[JsonObject]) -> None:
        for interrupt in interrupts:
            # The graph that asks yields it first, then those around it do.
            self._requests.setdefault(interrupt["id"], requested(self._run, interrupt, namespace=namespace))

    def _checkpoint(self, namespace: Namespace, data: JsonObject) -> None:
        address = data["config"]["configurable"]
        parent = (data["parent_config"] or {}).get("configurable", {}).get("checkpoint_id")
        shown: JsonObject = {"id": address["checkpoint_id"], "step": data["metadata"].get("step")}
        shown["source"] = data["metadata"].get("source")
        if parent is not None:
            shown["parent_id"] = parent
        if self._late and not namespace and self._held is None:
            self._held = (), data["values"]
        if self._anew and not namespace:
            self._ahead.append(shown)
        else:
            self._emit("checkpoints", shown, namespace)
        self._release()

    def _follow(self) -> None:
        """Emit the checkpoints that waited."""
        for shown in self._ahead:
            self._emit("checkpoints", shown)
        self._ahead.clear()

    def _updates(self, namespace: Namespace, data: Any) -> None:
        if CACHED in data:
            # Of a node that was through before the step was repeated: said then.
            return
        for node, update in data.items():
            if node == "__interrupt__":
                self._interrupts(namespace, _interrupts_of(data))
                continue
            values = update if isinstance(update, dict) else {} if update is None else {"value": update}
            self._emit("updates", {"node": node, "values": values}, namespace, node=node)

    def _custom(self, namespace: Namespace, data: Any) -> None:
        name = data.get("name") if isinstance(data, dict) else None
        if not (isinstance(name, str) and name):
            self._emit("custom", {"payload": data}, namespace)
            return
        fields = cast(JsonObject, data)
        rest = {key: value for key, value in fields.items() if key != "name"}
        self._emit("custom", {"payload": rest, **fields}, namespace, channel=f"custom:{name}")

    def _task(self, namespace: Namespace, data: JsonObject) -> None:
        if isinstance(data.get("error"), BaseException):
            data = {**data, "error": describe(data["error"])["message"]}
        if "result" in data:
            self._messages.close(namespace, data)
            self._lifecycle(self._lineage.ended(namespace, data))
            self._emit("tasks", data, namespace)
        else:
            self._lifecycle(self._lineage.started(namespace, data))
            self._emit("tasks", data, namespace)

    def _lifecycle(self, events: Iterator[tuple[Namespace, JsonObject]]) -> None:
        for namespace, data in events:
            self._emit("lifecycle", data, namespace)

    def _emit_all(self, events: Iterable[JsonObject], namespace: Namespace, call: JsonObject) -> None:
        node = call.get("langgraph_node")
        self._send([self._frame("messages", data, namespace, node=node) for data in events])

    def _emit(
        self, method: str, data: Any, namespace: Namespace = (), *, node: str | None = None, channel: str | None = None
    ) -> None:
        self._send([self._frame(method, data, namespace, node=node, channel=channel)])

    def _frame(
        self,
        method: str,
        data: Any,
        namespace: Namespace = (),
        *,
        kind: Kind = "event",
        node: str | None = None,
        channel: str | None = None,
    ) -> Frame:
        return frame(
            self._run,
            kind,
            next(self._ids),
            method=method,
            data=data,
            namespace=namespace,
            node=node,
            channel=channel,
        )


def forks(run: Run) -> bool:
    """Whether a run begins at a checkpoint that was named."""
    asked: JsonObject = run.options.config
    return (asked.get("configurable") or {}).get("checkpoint_id") is not None


def _state(values: Any) -> Any:
    """Leave out of a state what is said by events of its own."""
    if isinstance(values, dict) and "__interrupt__" in values:
        return {key: value for key, value in cast(JsonObject, values).items() if key != "__interrupt__"}
    return values


def _interrupts_of(data: JsonObject) -> list[JsonObject]:
    """Read the interrupts of a chunk; those before or after a node ask nothing, and have none."""
    return [{"id": interrupt.id, "value": interrupt.value} for interrupt in data.get("__interrupt__", ())]
