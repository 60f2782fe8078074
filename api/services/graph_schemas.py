"""JSON schemas of what graphs take, give and keep."""

import contextlib
import typing
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any, cast

import typing_extensions
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel
from langgraph.pregel.protocol import PregelProtocol
from pydantic import BaseModel, TypeAdapter

from durathread.graphs.registry import Graph
from durathread.records import JsonObject

PARTS = ("input_schema", "output_schema", "state_schema", "config_schema", "context_schema")


def schemas_of(graph: PregelProtocol[Any, Any, Any, Any]) -> JsonObject:
    """Describe a graph. What has no JSON schema is null, and hinders nothing else."""
    if not isinstance(graph, Pregel):
        return dict.fromkeys(PARTS)
    compiled: Graph = graph
    builder: Any = compiled.builder if isinstance(compiled, CompiledStateGraph) else None
    context = _made(lambda: _of_type(compiled.context_schema))
    return {
        "input_schema": _made(compiled.get_input_jsonschema) or _made(lambda: _of_type(builder.input_schema)),
        "output_schema": _made(compiled.get_output_jsonschema) or _made(lambda: _of_type(builder.output_schema)),
        "state_schema": _made(lambda: _of_type(builder.state_schema)) or _made(compiled.get_output_jsonschema),
        # What `configurable` may hold: LangGraph keeps no schema of it but the context's.
        "config_schema": context and {**context, "title": "Configurable"},
        "context_schema": context,
    }


def _made(make: Callable[[], JsonObject | None]) -> JsonObject | None:
    # Pydantic refuses a type in many ways, and so may the hooks of the user's own types.
    with contextlib.suppress(Exception):
        return make()
    return None


def _of_type(kind: Any) -> JsonObject | None:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind.model_json_schema()
    if typing_extensions.is_typeddict(kind):
        return TypeAdapter(_twin(kind)).json_schema()
    return TypeAdapter(cast(Any, kind)).json_schema() if is_dataclass(kind) else None


def _twin(kind: Any) -> Any:
    """Rebuild a TypedDict: pydantic takes those of `typing` only on Python 3.12 and later."""
    keys: dict[str, Any] = {}
    for name, hint in typing_extensions.get_type_hints(kind, include_extras=True).items():
        bare = hint
        if typing_extensions.get_origin(hint) in _QUALIFIERS:
            bare = typing_extensions.get_args(hint)[0]
        required = name in kind.__required_keys__
        keys[name] = typing_extensions.Required[bare] if required else typing_extensions.NotRequired[bare]
    return cast(Any, typing_extensions.TypedDict)(kind.__name__, keys)


_QUALIFIERS = (typing.Required, typing.NotRequired, typing_extensions.Required, typing_extensions.NotRequired)
