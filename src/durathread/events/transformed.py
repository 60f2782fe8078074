"""What a graph yields, after its stream transformers: for all clients the same, whichever protocol they speak."""

import copy
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, cast

from langchain_core.messages import AIMessageChunk, BaseMessage

from durathread.events.messages import Messages, Namespace
from durathread.events.model_calls import PREFIX, ModelCalls
from durathread.events.redaction import redacted, redacted_event
from durathread.events.rewriting import Rewriting
from durathread.events.transformers import Pipeline
from durathread.records import JsonObject

Chunk = tuple[Namespace, str, Any]
# A mode of ours: what a transformer has pushed to a named channel.
CHANNEL = "channel"
INTERRUPTS = "__interrupt__"


class Transformed:
    """Passes what one step yields through the transformers. Without any it passes on what it gets."""

    def __init__(self, pipeline: Pipeline | None, calls: ModelCalls) -> None:
        """Take the transformers of the run; `calls` says which messages have come to their end."""
        self._pipeline = pipeline
        self._messages = Messages(self._collect, calls)
        self._said: list[tuple[JsonObject, Namespace, JsonObject]] = []
        self._rewriting: dict[str, Rewriting] = {}

    @property
    def modes(self) -> set[str]:
        """What the transformers want to see."""
        return self._pipeline.modes if self._pipeline else set()

    async def through(self, chunk: Chunk, *, repeats: bool) -> list[Chunk]:
        """Return what is to be shown of a chunk; `repeats` says that the transformers have seen it in the step before."""
        if self._pipeline is None:
            return [chunk]
        namespace, mode, data = chunk
        if mode == "messages":
            return await self._message(self._pipeline, namespace, *cast(tuple[BaseMessage, JsonObject], data))
        if repeats and (mode != "values" or self._pipeline.values is not None):
            if mode == "values":
                return [(namespace, mode, self._known(data))]
            return [(namespace, mode, self._state(mode, await redacted(self._pipeline, mode, data)))]
        shown: list[Chunk] = []
        if mode == "tasks" and "result" in data:
            self._messages.close(namespace, data)
            shown += await self._spoken(self._pipeline)
        if mode == "values":
            return shown + await self._values(self._pipeline, namespace, data)
        event, pushed = await self._pipeline.push(mode, namespace, data)
        shown += _channels(pushed)
        if mode == "tasks":
            # Taken out by transformers that follow subgraphs, as LangGraph's own do. Clients follow them too.
            left = data if event is None else event["params"]["data"]
            shown.append((namespace, mode, await redacted(self._pipeline, mode, left)))
        elif event is not None:
            left = await redacted(self._pipeline, mode, event["params"]["data"])
            shown.append((namespace, mode, left if namespace else self._state(mode, left)))
        return shown

    async def event(self, event: JsonObject) -> JsonObject | None:
        """Return what is to be shown of an event of LangChain, or None."""
        return event if self._pipeline is None else await redacted_event(self._pipeline, event)

    async def raw(self, mode: str, data: Any) -> tuple[Any] | None:
        """Return what is to be shown of a chunk as LangChain's events have it, or None."""
        if self._pipeline is None:
            return (data,)
        if mode in ("messages", "custom"):
            # It passes the transformers later, and may be taken out.
            return None
        if mode == "values":
            return ((await redacted(self._pipeline, "tasks", {mode: data}))[mode],)
        return (await redacted(self._pipeline, mode, data),)

    async def pause(self) -> list[Chunk]:
        """End a step that others follow."""
        if self._pipeline is None:
            return []
        self._messages.finish()
        return [*await self._spoken(self._pipeline), *_channels(await self._pipeline.settle())]

    async def end(self) -> list[Chunk]:
        """End the run."""
        if self._pipeline is None:
            return []
        self._messages.finish()
        return [*await self._spoken(self._pipeline), *_channels(await self._pipeline.end())]

    async def fail(self, error: BaseException) -> None:
        """Say that the run has failed, or that others go on with it."""
        if self._pipeline is not None:
            await self._pipeline.fail(error)

    def _collect(self, events: Iterable[JsonObject], namespace: Namespace, call: JsonObject) -> None:
        self._said += [(event, namespace, call) for event in events]

    async def _values(self, pipeline: Pipeline, namespace: Namespace, data: Any) -> list[Chunk]:
        asked: dict[str, Any] = {}
        if isinstance(data, dict) and INTERRUPTS in data:
            asked = {INTERRUPTS: cast(JsonObject, data)[INTERRUPTS]}
            data = {key: value for key, value in cast(JsonObject, data).items() if key != INTERRUPTS}
        interrupts = tuple(asked.get(INTERRUPTS, ()))
        event, pushed = await pipeline.push("values", namespace, data, interrupts=interrupts)
        shown = _channels(pushed)
        if event is None:
            return shown
        left: Any = event["params"]["data"]
        if not namespace:
            pipeline.values = left
        return [*shown, (namespace, "values", {**left, **asked} if asked else left)]

    def _known(self, data: Any) -> Any:
        """Return a state that is repeated as it was shown."""
        values = cast(Pipeline, self._pipeline).values
        if isinstance(data, dict) and INTERRUPTS in data:
            return {**values, INTERRUPTS: cast(JsonObject, data)[INTERRUPTS]}
        return values

    def _state(self, mode: str, data: Any) -> Any:
        """Return a checkpoint of the root graph with its state as it was shown."""
        values = cast(Pipeline, self._pipeline).values
        shown = data["values"] if mode == "checkpoints" else None
        if isinstance(shown, dict) and isinstance(values, dict) and cast(JsonObject, shown).keys() == values.keys():
            return {**data, "values": values}
        return data

    async def _message(
        self, pipeline: Pipeline, namespace: Namespace, message: BaseMessage, call: JsonObject
    ) -> list[Chunk]:
        if isinstance(message, AIMessageChunk):
            self._messages.take(namespace, message, call)
            if not self._said:
                # Nothing that a transformer could see: what it has cost, or that it goes on.
                rewriting = self._rewriting.get(message.id or "")
                return [(namespace, "messages", (message, call))] if rewriting is None or rewriting.kept else []
            return await self._spoken(pipeline, message)
        event, pushed = await pipeline.push("messages", namespace, (message, _called(call, message.id)))
        shown = _channels(pushed)
        left = event["params"]["data"][0] if event is not None else None
        return [*shown, (namespace, "messages", (left, call))] if isinstance(left, BaseMessage) else shown

    async def _spoken(self, pipeline: Pipeline, chunk: AIMessageChunk | None = None) -> list[Chunk]:
        """Pass on what has come of messages: of that of a chunk, or of those that have ended."""
        said, self._said = self._said, []
        shown: list[Chunk] = []
        for message_id, events in itertools.groupby(said, key=lambda each: cast(str, each[0]["id"])):
            own = chunk if chunk is not None and chunk.id == message_id else None
            shown += await self._written(pipeline, message_id, list(events), own)
        return shown

    async def _written(
        self,
        pipeline: Pipeline,
        message_id: str,
        events: Sequence[tuple[JsonObject, Namespace, JsonObject]],
        chunk: AIMessageChunk | None,
    ) -> list[Chunk]:
        rewriting = self._rewriting.setdefault(message_id, Rewriting(message_id))
        shown: list[Chunk] = []
        for event, namespace, call in events:
            # Transformers change events in place.
            given = copy.deepcopy(event)
            if given["event"] == "message-start":
                given["message_id"] = message_id
            left, pushed = await pipeline.push("messages", namespace, (given, _called(call, message_id)))
            shown += _channels(pushed)
            rewriting.note(event, cast(JsonObject, left["params"]["data"][0]) if left is not None else None)
        last, namespace, call = events[-1]
        if last["event"] in ("message-finish", "error"):
            del self._rewriting[message_id]
        rewritten = rewriting.rewrite(chunk)
        return shown if rewritten is None else [*shown, (namespace, "messages", (rewritten, call))]


def _called(call: JsonObject, message_id: str | None) -> JsonObject:
    """Tell calls apart as LangGraph does for transformers: by the id of the model's run."""
    return {**call, "run_id": (message_id or "").removeprefix(PREFIX)}


def _channels(pushed: Iterable[tuple[str, Any]]) -> list[Chunk]:
    return [((), CHANNEL, item) for item in pushed]
