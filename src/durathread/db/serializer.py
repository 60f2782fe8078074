"""How values are stored: as LangGraph's serializer does it, and whole numbers of any size as well."""

import dataclasses
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, cast

import ormsgpack
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

# Private, but part of the tables' format, as are the codes: a stock serializer reads what this one writes.
from langgraph.checkpoint.serde.types import (
    SendProtocol,
    _DeltaSnapshot,  # pyright: ignore[reportPrivateUsage]
)

ONE_ARGUMENT, ARGUMENTS, KEYWORDS, MODEL, SNAPSHOT = 0, 1, 2, 5, 7


class Serializer(JsonPlusSerializer):
    """LangGraph's serializer, for which 64 bits are no limit.

    Only what LangGraph's refuses is looked at; keys of dictionaries keep the limit.
    """

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """Serialize a value.

        Raises:
            TypeError: it holds what cannot be stored.
        """
        try:
            return super().dumps_typed(obj)
        except ormsgpack.MsgpackEncodeError as error:
            try:
                return super().dumps_typed(self._copy(obj))
            except (RecursionError, ValueError):
                raise error from None

    def _copy(self, value: Any) -> Any:
        """Copy a value; its large numbers become calls of `int`, and what holds others is written as LangGraph does."""
        if isinstance(value, bool | str | bytes | float) or value is None:
            return value
        if isinstance(value, int):
            fits = -(2**63) <= value < 2**64
            return value if fits else self._call(ONE_ARGUMENT, int, str(int(value)))
        if isinstance(value, _DeltaSnapshot):
            return ormsgpack.Ext(SNAPSHOT, self._packed([self._copy(value.value)])[1:])
        if type(value) is dict:
            return {key: self._copy(item) for key, item in cast(dict[Any, Any], value).items()}
        if type(value) in (list, tuple):
            return self._copies(value)
        if isinstance(value, set | frozenset | deque):
            return self._call(ONE_ARGUMENT, cast(Any, type(value)), self._copies(cast(Iterable[Any], value)))
        return self._copy_of_object(value)

    def _copy_of_object(self, value: Any) -> Any:
        kind = type(value)
        if callable(getattr(value, "model_dump", None)):
            return self._call(MODEL, kind, self._copy(dict(value.model_dump())), "model_validate_json")
        if callable(getattr(value, "_asdict", None)):
            return self._call(KEYWORDS, kind, self._copy(value._asdict()))
        if isinstance(value, SendProtocol):
            timeout = getattr(value, "timeout", None)
            given = [value.node, value.arg, *([] if timeout is None else [timeout])]
            return self._call(ARGUMENTS, kind, self._copies(given))
        if dataclasses.is_dataclass(value):
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return self._call(KEYWORDS, kind, self._copy(fields))
        if isinstance(value, Mapping):
            return {key: self._copy(item) for key, item in cast(Mapping[Any, Any], value).items()}
        return value

    def _copies(self, values: Iterable[Any]) -> list[Any]:
        return [self._copy(value) for value in values]

    def _call(self, code: int, kind: type, *given: Any) -> ormsgpack.Ext:
        return ormsgpack.Ext(code, self._packed([kind.__module__, kind.__name__, *given]))

    def _packed(self, values: list[Any]) -> bytes:
        return super().dumps_typed(values)[1]
