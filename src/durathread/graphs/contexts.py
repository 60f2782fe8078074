"""What a graph finds as its `runtime.context`."""

import inspect
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, cast

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo


def context_of(schema: Any, sent: Mapping[str, Any] | None) -> Any:
    """Build the context of a run from what its client and its assistant have sent.

    A schema that is a class (a dataclass, a pydantic model) is built, from its defaults if nothing was sent; keys that it
    does not know are dropped. Without a schema, or with one of another kind, it is what was sent, or None.

    Raises:
        TypeError: a dataclass requires a field that was not sent.
        ValueError: a pydantic model refuses what was sent.
    """
    if inspect.isclass(schema) and issubclass(schema, BaseModel):
        return schema(**_taken_by_model(schema, sent or {}))
    if inspect.isclass(schema) and is_dataclass(schema):
        return cast(Any, schema)(**_taken_by(schema, sent or {}))
    return dict(sent) if sent else None


def _taken_by_model(schema: type[BaseModel], sent: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave to the model what it does not know, unless it forbids that."""
    if schema.model_config.get("extra") != "forbid":
        return sent
    known = {name for key, field in schema.model_fields.items() for name in (key, *_aliases(field))}
    return {key: value for key, value in sent.items() if key in known}


def _aliases(field: FieldInfo) -> list[str]:
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return [choice for choice in (field.alias, *choices) if isinstance(choice, str)]


def _taken_by(schema: type[Any], sent: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = inspect.signature(schema).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return sent
    return {key: value for key, value in sent.items() if key in parameters}
