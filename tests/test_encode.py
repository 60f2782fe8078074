"""JSON of whatever a graph's state may hold."""

import dataclasses
import datetime as dt
import enum
import itertools
import math
import re
import uuid
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from decimal import Decimal
from ipaddress import IPv4Address
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson
import psycopg
import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.types import Command, Interrupt, Send
from psycopg.types.json import Jsonb
from pydantic import BaseModel, SecretStr

from durathread.encode import dumps, dumps_for_postgres, event_data, jsonable, loads
from durathread.streams.frames import Named, frame


class Model(BaseModel):
    name: str
    when: dt.date = dt.date(2026, 1, 2)


class Guarded(BaseModel):
    secret: SecretStr


@dataclasses.dataclass
class Point:
    x: int
    y: Any = None


class Colour(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    left: int
    right: int


class Odd:
    def __repr__(self) -> str:
        return "<odd>"


CASES: dict[str, tuple[Any, Any]] = {
    "plain": ({"a": [1, 2.5, True, None, "é"]}, {"a": [1, 2.5, True, None, "é"]}),
    "set": ({"a": {1}}, {"a": [1]}),
    "frozenset": (frozenset(["a"]), ["a"]),
    "tuple": ((1, (2,)), [1, [2]]),
    "deque": (deque([1, 2]), [1, 2]),
    "generator": ((n for n in range(3)), [0, 1, 2]),
    "bytes": (b"abc", "YWJj"),
    "bytes that are no text": (b"\xff", "/w=="),
    "bytearray": (bytearray(b"abc"), "YWJj"),
    "infinite": ([math.nan, math.inf, -math.inf], [None, None, None]),
    "keys of any type": ({1: "a", None: "b", 2.5: "c", uuid.UUID(int=0): "d"}, None),
    "big keys": ({2**70: 1, ("a", 1): 2}, {str(2**70): 1, "('a', 1)": 2}),
    "64 bits": ([2**63 - 1, -(2**63), 2**64 - 1], [2**63 - 1, -(2**63), 2**64 - 1]),
    "65 bits": ([2**64, -(2**63) - 1], [2**64, -(2**63) - 1]),
    "a huge number": (10**400, str(10**400)),
    "decimal": ([Decimal("1.5"), Decimal(2), Decimal(2**70)], [1.5, 2, 2**70]),
    "decimal without end": ([Decimal("Infinity"), Decimal("NaN"), Decimal("sNaN")], [None, None, None]),
    "huge decimal": (Decimal("1E+999999"), "1E+999999"),
    "time": (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "2026-01-02T00:00:00+00:00"),
    "timedelta": (dt.timedelta(minutes=1), 60.0),
    "uuid": (uuid.UUID(int=1), str(uuid.UUID(int=1))),
    "enum": (Colour.RED, "red"),
    "path": (PurePosixPath("a/b"), "a/b"),
    "address": (IPv4Address("127.0.0.1"), "127.0.0.1"),
    "pattern": (re.compile("a+"), "a+"),
    "mapping": (MappingProxyType({"a": 1}), {"a": 1}),
    "ordered": (OrderedDict(a=1), {"a": 1}),
    "defaultdict": (defaultdict(list, a=[1]), {"a": [1]}),
    "named tuple": (Pair(1, 2), [1, 2]),
    "dataclass": (Point(1, Point(2)), {"x": 1, "y": {"x": 2, "y": None}}),
    "dataclass with a big number": (Point(2**70), {"x": 2**70, "y": None}),
    "model": (Model(name="a"), {"name": "a", "when": "2026-01-02"}),
    "exception": (ValueError("wrong"), {"error": "ValueError", "message": "wrong"}),
    "a type": (Model, repr(Model)),
    "anything": (Odd(), "<odd>"),
    "broken surrogate": ("a\ud800b", "a?b"),
    "broken surrogate as a key": ({"\ud800": "\ud800"}, {"?": "?"}),
    "interrupt": (Interrupt(value="sure?", id="i"), None),
}


@pytest.mark.parametrize(("value", "expected"), [pytest.param(*case, id=name) for name, case in CASES.items()])
def test_a_value_becomes_json(value: Any, expected: Any) -> None:
    found = jsonable(value)
    assert loads(dumps(found)) == found
    if expected is not None:
        assert found == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x00", "�"),
        ("a\x00b\x00", "a�b�"),
        ("\\u0000", "\\u0000"),
        ("\\\x00", "\\�"),
        ("\\\\u0000", "\\\\u0000"),
        ("\\\\\x00\x00", "\\\\��"),
    ],
)
def test_nul_characters_are_replaced_and_nothing_else(text: str, expected: str) -> None:
    assert jsonable({"a": text, text: 1}) == {"a": expected, expected: 1}


@pytest.mark.parametrize(
    "message", [HumanMessage("hi", id="1"), AIMessage("yes", id="2"), ToolMessage("42", tool_call_id="t")]
)
def test_messages_become_what_the_sdk_shows(message: Any) -> None:
    found = jsonable({"messages": [message]})["messages"][0]
    assert (found["type"], found["content"]) == (message.type, message.content)


def test_documents_keep_their_fields() -> None:
    found = jsonable(Document(page_content="text", metadata={"a": 1}))
    assert (found["page_content"], found["metadata"]) == ("text", {"a": 1})


def test_secrets_of_models_stay_secret() -> None:
    assert b"swordfish" not in dumps(Guarded(secret=SecretStr("swordfish")))


def test_commands_and_sends_become_something() -> None:
    assert jsonable([Send("a", {"x": 1}), Command(goto="b")])


def test_circular_values_end() -> None:
    circle: dict[str, Any] = {"a": 1}
    circle["self"] = circle
    assert jsonable(circle)["a"] == 1
    ring: list[Any] = [1]
    ring.append(ring)
    assert jsonable(ring)[0] == 1


def test_deep_values_end() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    assert jsonable(deep)


def test_whatever_is_encoded_fits_into_postgres(database: str) -> None:
    values = [value for name, (value, _) in CASES.items() if name != "generator"]
    with psycopg.connect(database) as conn:
        for value in [*values, "\x00", {"\x00": "\\\x00"}]:
            row = conn.execute("SELECT %s", (Jsonb(value, dumps=dumps_for_postgres),)).fetchone()
            assert (row and row[0]) == loads(dumps_for_postgres(value))


NUMBERS = [
    2**63,
    2**64,
    10**22,
    -(10**30),
    10**400,
    1e16,
    1e22,
    1e23,
    1.5e300,
    1.7976931348623157e308,
    5e-324,
    1.0,
    0.1,
]


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_come_back_from_postgres_as_they_were(database: str, number: float) -> None:
    """A whole float beside the integer that is equal to it, at every place of a document, and within texts nothing."""
    value = {"a": number, "b": [number, f"{number},1e+22,"], str(number): {"c": number}}
    with psycopg.connect(database) as conn:
        row = conn.execute("SELECT %s", (Jsonb(value, dumps=dumps_for_postgres),)).fetchone()
    assert repr(row and row[0]) == repr(value)


@dataclasses.dataclass
class Node:
    """One of a tree whose parts know each other."""

    name: str
    parent: "Node | None" = None
    children: list["Node"] = dataclasses.field(default_factory=list["Node"])

    def to_dict(self) -> dict[str, Any]:
        """Describe it by the others."""
        return {"name": self.name, "parent": self.parent, "children": self.children}


class Described:
    """Makes new objects whenever it is asked what it is."""

    def to_dict(self) -> dict[str, Any]:
        """Describe it by two like it."""
        return {"left": Described(), "right": Described()}


def family() -> Node:
    root = Node("root")
    root.children = [Node(name, root) for name in ("a", "b")]
    return root


def test_parts_that_know_each_other_are_encoded_once_on_each_way() -> None:
    child = {"parent": "…", "children": []}
    assert jsonable(family()) == {
        "name": "root",
        "parent": None,
        "children": [{"name": "a", **child}, {"name": "b", **child}],
    }


def crowd() -> list[Node]:
    nodes = [Node(str(number)) for number in range(50)]
    for node in nodes:
        node.children = [*nodes]
    return nodes


def endless() -> Any:
    return {"count": itertools.count()}


@pytest.mark.parametrize("make", [crowd, Described, endless])
def test_what_has_no_end_is_replaced(make: Callable[[], Any]) -> None:
    assert "ValueError" in orjson.loads(event_data(make()))["__unencodable__"]


def test_the_same_object_in_several_places_is_no_circle() -> None:
    shared = {"big": 2**70}
    assert jsonable([shared, {"again": shared}, Point(1, shared)]) == [
        {"big": 2**70},
        {"again": {"big": 2**70}},
        {"x": 1, "y": {"big": 2**70}},
    ]


class Shy:
    """Cannot describe itself."""

    def __repr__(self) -> str:
        raise ValueError("no")


@pytest.mark.parametrize("value", [Shy(), {"shy": [Shy()]}])
def test_an_event_that_cannot_be_encoded_is_replaced_by_one_that_says_so(value: Any) -> None:
    said = orjson.loads(event_data(value))
    assert "cannot be encoded" in said["__unencodable__"]
    assert "ValueError" in said["__unencodable__"]


def test_a_frame_that_cannot_be_encoded_keeps_its_form() -> None:
    found = frame(Named("r", "t"), "event", "e1", method="custom", data={"payload": Shy()}, node="n")
    said = orjson.loads(found.data)
    assert (said["type"], said["event_id"], said["method"], said["params"]["node"]) == ("event", "e1", "custom", "n")
    assert "cannot be encoded" in said["params"]["data"]["payload"]["__unencodable__"]
