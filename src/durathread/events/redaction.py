"""What modes show that no transformer sees: the same is taken out of it as out of the state.

Transformers work on messages and on states. What a node was given and has written, and what LangChain's events say, has the
same words in it. So each part of it that could be one of a state is passed, as a state, through transformers of the same kind,
which nobody else hears of.
"""

from collections.abc import Awaitable, Callable
from typing import Any, cast

from langchain_core.messages import BaseMessage

from durathread.encode import jsonable
from durathread.events.transformers import Pipeline
from durathread.records import JsonObject

INTERRUPTS = "__interrupt__"
# Of `tasks`, of what `debug` says of tasks and checkpoints, and of `checkpoints`: what is of a state.
OF_STATES = ("input", "result", "values")
# Of LangChain's events.
OF_EVENTS = ("input", "output", "chunk")

Redact = Callable[[Any], Awaitable[Any]]


async def redacted(pipeline: Pipeline, mode: str, data: Any) -> Any:
    """Return what is to be seen of a chunk of a mode."""
    redact = _redact(pipeline)
    if mode == "updates" and isinstance(data, dict):
        updates = cast(JsonObject, data)
        return {name: said if name == INTERRUPTS else await _all(redact, said) for name, said in updates.items()}
    if mode in ("tasks", "checkpoints") and isinstance(data, dict):
        return await _task(redact, cast(JsonObject, data))
    if mode == "debug" and isinstance(data, dict) and isinstance(payload := data.get("payload"), dict):
        return {**cast(JsonObject, data), "payload": await _task(redact, cast(JsonObject, payload))}
    return data


async def redacted_event(pipeline: Pipeline, event: JsonObject) -> JsonObject | None:
    """Return what is to be seen of an event of LangChain; None if that cannot be said.

    What a model streams comes in pieces, of which a transformer may need several. It is shown as messages.
    """
    if event["event"].endswith("_stream"):
        return None
    data: JsonObject = event.get("data") or {}
    redact = _redact(pipeline)
    return {**event, "data": {key: await redact(said) if key in OF_EVENTS else said for key, said in data.items()}}


def _redact(pipeline: Pipeline) -> Redact:
    async def redact(said: Any) -> Any:
        try:
            event, _ = await pipeline.aside.push("values", (), opened(said))
        except Exception:  # noqa: BLE001, users' code
            # It does not know what to make of it, or forbids it.
            return None
        return event["params"]["data"] if event is not None else None

    return redact


def opened(said: Any) -> Any:
    """Copy what transformers look into, and show all else (commands, objects of users') as clients see it, for them to look into."""
    if said is None or isinstance(said, str | bool | int | float | BaseMessage):
        return said
    if isinstance(said, dict):
        return {key: opened(value) for key, value in cast(dict[Any, Any], said).items()}
    if isinstance(said, list | tuple):
        return [opened(value) for value in cast(list[Any], said)]
    return jsonable(said)


async def _all(redact: Redact, said: Any) -> Any:
    """A node may have written several times."""
    return [await redact(each) for each in cast(list[Any], said)] if isinstance(said, list) else await redact(said)


async def _task(redact: Redact, said: JsonObject) -> JsonObject:
    found = {key: await redact(value) if key in OF_STATES else value for key, value in said.items()}
    if isinstance(tasks := found.get("tasks"), list | tuple):
        found["tasks"] = [
            await _task(redact, cast(JsonObject, task)) if isinstance(task, dict) else task
            for task in cast(list[Any], tasks)
        ]
    return found
