"""Which rows somebody may see, by their metadata.

A filter of the SDK's `Auth` is a formula of equalities and containments. Each of its alternatives comes down to one JSON
document that the metadata must contain, so that a filter is a list of documents, one parameter of a query whose text
never changes: `metadata @> ANY(documents)`, which the index on the metadata serves.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, LiteralString, cast

from psycopg.types.json import Jsonb

from durathread.encode import jsonable
from durathread.records import JsonObject

# Conditions of queries that take `shown(only)`; rows of the table that has the metadata.
SHOWN: LiteralString = "(%(only)s::jsonb[] IS NULL OR metadata @> ANY(%(only)s::jsonb[]))"
THREAD_SHOWN: LiteralString = """
(%(only)s::jsonb[] IS NULL OR EXISTS (
    SELECT 1 FROM thread WHERE thread.thread_id = run.thread_id AND metadata @> ANY(%(only)s::jsonb[])))
"""

DEEPEST = 2
SCALARS = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Filter:
    """Lets through what contains one of the documents."""

    documents: tuple[JsonObject, ...]

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> "Filter | None":
        """Read what a handler returned; None if it lets everything through.

        Raises:
            ValueError: it is not a filter.
        """
        return cls(tuple(_conjunction(jsonable(given), 0))) if given else None

    @property
    def sole(self) -> JsonObject:
        """What all that passes must contain, as far as that is one document; else an empty one."""
        return self.documents[0] if len(self.documents) == 1 else {}

    def admits(self, metadata: JsonObject) -> bool:
        """Say whether what has such metadata passes."""
        return any(_contains(metadata, document) for document in self.documents)


def shown(visible_to: Filter | None) -> list[Jsonb] | None:
    """Return the parameter `only` of `SHOWN`."""
    return None if visible_to is None else [Jsonb(document) for document in visible_to.documents]


def parameter(value: Any) -> Any:
    """Return a condition's value as the database takes it."""
    if isinstance(value, Filter):
        return shown(value)
    return Jsonb(value) if isinstance(value, dict) else value


def _conjunction(given: Mapping[str, Any], depth: int) -> list[JsonObject]:
    """Return the alternatives of conditions that must all hold."""
    return _product([_alternatives(key, condition, depth) for key, condition in given.items()])


def _alternatives(key: str, condition: Any, depth: int) -> list[JsonObject]:
    if key in ("$or", "$and"):
        groups = _groups(key, condition, depth + 1)
        return [term for group in groups for term in group] if key == "$or" else _product(groups)
    if key.startswith("$"):
        raise ValueError(f"there is no operator {key} of filters")
    if not isinstance(condition, dict):
        return [{key: _scalar(condition)}]
    operators = cast(JsonObject, condition)
    if not operators:
        raise ValueError(f"the filter of {key} is empty")
    return _product([[{key: _operand(name, operand)}] for name, operand in operators.items()])


def _groups(key: str, given: Any, depth: int) -> list[list[JsonObject]]:
    if depth > DEEPEST:
        raise ValueError(f"{key} lies deeper than {DEEPEST} levels")
    if not isinstance(given, list) or len(cast(list[Any], given)) < 2:
        raise ValueError(f"{key} takes a list of two or more filters")
    groups = cast(list[Any], given)
    if not all(isinstance(group, dict) and group for group in groups):
        raise ValueError(f"{key} takes filters, none of them empty")
    return [_conjunction(group, depth) for group in groups]


def _operand(name: str, operand: Any) -> Any:
    if name == "$eq":
        return _scalar(operand)
    if name != "$contains":
        raise ValueError(f"there is no operator {name} of filters")
    wanted = cast(list[Any], operand) if isinstance(operand, list) else [operand]
    if not wanted:
        # All lists contain it, whosever they are.
        raise ValueError("$contains names nothing")
    return [_scalar(item) for item in wanted]


def _scalar(value: Any) -> Any:
    # Containment is equality for these only.
    if isinstance(value, SCALARS):
        return value
    raise ValueError("filters compare with strings, numbers, booleans and null")


def _product(factors: Sequence[Iterable[JsonObject]]) -> list[JsonObject]:
    return reduce(_both, factors, [cast(JsonObject, {})])


def _both(left: Iterable[JsonObject], right: Iterable[JsonObject]) -> list[JsonObject]:
    right = list(right)
    merged = [_merged(one, other) for one in left for other in right]
    return [document for document in merged if document is not None]


def _merged(one: JsonObject, other: JsonObject) -> JsonObject | None:
    """Return a document that is contained only where both are; None if that is nowhere."""
    merged = dict(one)
    for key, value in other.items():
        known = merged.setdefault(key, value)
        if isinstance(known, list) and isinstance(value, list):
            merged[key] = [*known, *(item for item in value if item not in known)]
        elif type(known) is not type(value) or known != value:
            return None
    return merged


def _contains(metadata: JsonObject, document: JsonObject) -> bool:
    """Say of a document what Postgres' `@>` says."""
    return all(key in metadata and _holds(jsonable(metadata[key]), wanted) for key, wanted in document.items())


def _holds(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        items = cast(list[Any], value) if isinstance(value, list) else []
        return all(any(_same(item, one) for item in items) for one in cast(list[Any], wanted))
    return _same(value, wanted)


def _same(value: Any, wanted: Any) -> bool:
    # To Python, 1 is True.
    return isinstance(value, bool) is isinstance(wanted, bool) and value == wanted
