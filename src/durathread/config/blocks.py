"""The objects that langgraph.json is made of, and what is said of one that cannot be used."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from durathread.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


class Block(BaseModel):
    """An object of langgraph.json. An unknown key is refused: `disable_stroe` would disable nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    needs: ClassVar[Mapping[str, str]] = {}
    """What is said of a field that cannot be used, by its name; of the whole block if the name is empty."""


class LenientBlock(Block):
    """An object of which unknown keys are only warned of. Editors mark them all the same."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"additionalProperties": False})


def validated(model: type[Model], content: Any, *, where: str) -> Model:
    """Read a block from an object, or from JSON in a string.

    Raises:
        ConfigError: it cannot be used; says which key, and why.
    """
    try:
        return model.model_validate_json(content) if isinstance(content, str) else model.model_validate(content)
    except ValidationError as error:
        raise ConfigError(_explained(error, model, where)) from None


def unknown_keys(block: BaseModel, path: str = "") -> Iterator[tuple[str, str | None]]:
    """Find keys that no block knows, each with the key that was probably meant."""
    for name in block.model_extra or {}:
        if not name.startswith("$"):
            yield f"{path}{name}", meant(name, type(block))
    for name in type(block).model_fields:
        value = getattr(block, name)
        if isinstance(value, BaseModel):
            yield from unknown_keys(value, f"{path}{name}.")


def meant(name: str, model: type[BaseModel]) -> str | None:
    """Find the key that was probably meant."""
    return next(iter(get_close_matches(name, model.model_fields, n=1)), None)


def block_of(annotation: Any) -> type[BaseModel] | None:
    """Find the block that a field holds, also if it may be none."""
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _explained(error: ValidationError, root: type[BaseModel], where: str) -> str:
    """Say of the first mistake where it is and what is needed, in the words of the innermost block that has any."""
    first = error.errors()[0]
    model: type[BaseModel] | None = root
    path, hint, holder = where, "", root
    for part in first["loc"]:
        needs = getattr(model, "needs", {})
        hint = f"{path} {needs['']}" if "" in needs else hint
        path = f"{path}{part}" if path.endswith(": ") else f"{path}.{part}"
        if part in needs:
            return f"{path} {needs[part]}"
        holder = model or holder
        field = model.model_fields.get(str(part)) if model else None
        model = block_of(field.annotation) if field else None
    return (
        hint or f"{path} {_problem(first['type'], first['msg'], str(first['loc'][-1:] and first['loc'][-1]), holder)}"
    )


def _problem(kind: str, message: str, name: str, model: type[BaseModel]) -> str:
    match kind:
        case "extra_forbidden":
            near = meant(name, model)
            question = f" Did you mean {near}?" if near else ""
            return f"is not a key.{question} There are: {', '.join(model.model_fields)}."
        case "model_type" | "dict_type":
            return "must be an object."
        case "bool_type":
            return "must be true or false."
        case "list_type":
            return "must be a list."
        case "string_type":
            return "must be a string."
        case _:
            return f"cannot be used: {message}."
