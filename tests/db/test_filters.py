"""Filters let through what they say: in SQL, compared with a reading of them in Python."""

import random
from typing import Any, LiteralString, cast

import pytest
from psycopg.types.json import Jsonb

from durathread.db.filters import SHOWN, Filter, shown
from durathread.db.pool import Pool, connection

QUERY: LiteralString = f"""
SELECT (SELECT count(*) FROM (SELECT %(row)s::jsonb AS metadata) AS rows WHERE {SHOWN}) AS found
"""
VALUES = ["x", "", 1, True, None]
KEYS = ["owner", "with space"]


async def passes(pool: Pool, given: dict[str, Any], metadata: dict[str, Any]) -> bool:
    """Ask the database."""
    async with connection(pool) as conn:
        args = {"row": Jsonb(metadata), "only": shown(Filter.parse(given))}
        return (await (await conn.execute(QUERY, args)).fetchall())[0]["found"] == 1


def admits(given: dict[str, Any], metadata: dict[str, Any]) -> bool:
    """Ask without the database."""
    only = Filter.parse(given)
    return only is None or only.admits(metadata)


def same(one: Any, other: Any) -> bool:
    """Compare as JSON does: true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def reading(given: dict[str, Any], metadata: dict[str, Any]) -> bool:
    """Say what a filter means, condition by condition."""
    results: list[bool] = []
    for key, condition in given.items():
        if key in ("$or", "$and"):
            results.append((any if key == "$or" else all)(reading(group, metadata) for group in condition))
        elif isinstance(condition, dict):
            results.append(all(_operator(name, item, key, metadata) for name, item in condition.items()))
        else:
            results.append(key in metadata and same(metadata[key], condition))
    return all(results)


def _operator(name: str, operand: Any, key: str, metadata: dict[str, Any]) -> bool:
    if name == "$eq":
        return key in metadata and same(metadata[key], operand)
    held = metadata.get(key)
    wanted = operand if isinstance(operand, list) else [operand]
    return isinstance(held, list) and all(any(same(one, item) for one in cast(list[Any], held)) for item in wanted)


def some_condition(rng: random.Random) -> Any:
    """Make up the condition on a key."""
    value, other = rng.choice(VALUES), rng.choice(VALUES)
    return rng.choice([value, {"$eq": value}, {"$contains": value}, {"$contains": [value, other]}])


def some_filter(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    """Make up a filter."""
    made: dict[str, Any] = {rng.choice(KEYS): some_condition(rng) for _ in range(rng.randint(1, 2))}
    if depth < 2 and rng.random() < 0.6:
        groups = [some_filter(rng, depth + 1) for _ in range(rng.randint(2, 3))]
        made = {**(made if rng.random() < 0.5 else {}), rng.choice(["$or", "$and"]): groups}
    return made


def some_metadata(rng: random.Random) -> dict[str, Any]:
    """Make up metadata."""
    lists = [[], [rng.choice(VALUES)], rng.sample(VALUES, 2), VALUES]
    return {key: rng.choice([*VALUES, *lists, {"x": "y"}]) for key in KEYS if rng.random() < 0.9}


async def test_a_filter_means_in_the_database_what_it_says(pool: Pool) -> None:
    rng = random.Random(20261123)
    seen: dict[bool, int] = {True: 0, False: 0}
    for _ in range(1500):
        given, metadata = some_filter(rng), some_metadata(rng)
        expected = reading(given, metadata)
        assert await passes(pool, given, metadata) == expected, (given, metadata)
        assert admits(given, metadata) == expected, (given, metadata)
        seen[expected] += 1
    assert min(seen.values()) > 50


@pytest.mark.parametrize(
    ("given", "metadata", "expected"),
    [
        ({}, {}, True),
        ({"owner": "x"}, {}, False),
        ({"owner": "x"}, {"owner": ["x"]}, False),
        ({"owner": "x"}, {"owner": {"x": 1}}, False),
        ({"owner": None}, {}, False),
        ({"owner": None}, {"owner": None}, True),
        ({"owner": {"$eq": "x"}}, {"owner": "x", "more": 1}, True),
        ({"members": {"$contains": "x"}}, {"members": "x"}, False),
        ({"members": {"$contains": "x"}}, {"members": [["x"]]}, False),
        ({"members": {"$contains": ["x", "y"]}}, {"members": ["y", "z", "x"]}, True),
        ({"members": {"$contains": ["x", "y"]}}, {"members": ["y"]}, False),
        ({"owner": "x", "$and": [{"owner": "y"}, {"team": 1}]}, {"owner": "x", "team": 1}, False),
        ({"owner": "'; DROP TABLE thread; --"}, {"owner": "'; DROP TABLE thread; --"}, True),
    ],
)
async def test_the_corners_of_filters(
    pool: Pool, given: dict[str, Any], metadata: dict[str, Any], expected: bool
) -> None:
    assert await passes(pool, given, metadata) is expected
    assert admits(given, metadata) is expected


@pytest.mark.parametrize(
    "given",
    [
        {"owner": {}},
        {"owner": ["x"]},
        {"owner": {"$eq": ["x"]}},
        {"owner": {"$ne": "x"}},
        {"owner": {"name": "x"}},
        {"members": {"$contains": []}},
        {"members": {"$contains": [["x"]]}},
        {"$not": {"owner": "x"}},
        {"$or": {"owner": "x"}},
        {"$or": [{"owner": "x"}]},
        {"$or": [{"owner": "x"}, {}]},
        {"$and": [{"owner": "x"}, "team"]},
        {"$or": [{"a": 1}, {"$and": [{"b": 1}, {"$or": [{"c": 1}, {"d": 1}]}]}]},
    ],
    ids=str,
)
def test_what_is_not_a_filter_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"filter|\$"):
        Filter.parse(given)
