"""JSON of whatever a graph's state may hold."""

import base64
import dataclasses
import itertools
import json
import math
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import PurePath
from typing import Any, NoReturn, cast

import orjson
import structlog
from langchain_core.load.serializable import Serializable
from pydantic import BaseModel

log = structlog.get_logger()

# An escaped NUL, but not an escaped backslash in front of `u0000`.
NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
# Stands for what is nested deeper than this, and for what holds itself.
CUT = "…"
DEEPEST = 200
# Objects that all know each other have more ways through them than can be followed: so many ends are enough.
MOST_CUTS = 10_000
# Iterators may have no end.
LONGEST = 1_000_000
# Integers of fewer digits have room in 64 bits: of others orjson makes floats.
LONG_NUMBER = b"0" * 19
DIGITS = bytes(ord("0") if byte in b"0123456789" else ord(" ") for byte in range(256))
# Larger ones are written as text: readers who know doubles only refuse the whole of what holds one.
LARGEST_EXPONENT = 308
LARGEST = 10**LARGEST_EXPONENT
# From here on orjson writes floats with an exponent, which numbers in Postgres do not keep: they would come back whole.
EXPONENT_FROM = 1e16
# Older versions of orjson write no sign.
EXPONENTS = (b"0e00,", b"0e000,", b"e+00,", b"e+000,")
MARKS = bytes(
    ord("0") if byte in b"0123456789" else byte if byte in b"e+" else ord(",") if byte in b",]}" else ord(" ")
    for byte in range(256)
)


@dataclasses.dataclass(frozen=True)
class Encoded:
    """What is JSON already: a state may be large, and is encoded once."""

    text: bytes

    def decoded(self) -> Any:
        """Return the value."""
        return loads(self.text)


def loads(text: bytes | str) -> Any:
    """Read JSON as orjson does; integers of any size as what they are.

    Raises:
        JSONDecodeError: it is not JSON.
    """
    encoded = text.encode() if isinstance(text, str) else text
    return exact(encoded) if LONG_NUMBER in encoded.translate(DIGITS) else orjson.loads(encoded)


def exact(text: bytes | str) -> Any:
    """Read JSON with Python's own reader, which reads integers of any size.

    Raises:
        JSONDecodeError: it is not JSON.
    """
    return json.loads(text, parse_constant=_refuse, parse_int=_whole)


def _refuse(constant: str) -> NoReturn:
    raise json.JSONDecodeError(f"{constant} is not JSON", constant, 0)


def _whole(digits: str) -> int:
    try:
        return int(digits)
    except ValueError as error:
        raise json.JSONDecodeError(str(error), digits, 0) from None


def dumps(value: Any) -> bytes:
    """Encode as compact JSON. NUL characters, which Postgres cannot store, become U+FFFD.

    Raises:
        ValueError: there is no end to it.
    """
    if isinstance(value, Encoded):
        return value.text
    try:
        encoded = _plainly(value)
    except (TypeError, UnicodeEncodeError, RecursionError):
        encoded = orjson.dumps(_Copy().of(value), option=OPTIONS)
    return without_nul(encoded)


def dumps_for_postgres(value: Any) -> bytes:
    """Encode such that numbers come back from `jsonb` as they were, but for the sign of zero.

    Raises:
        ValueError: there is no end to it.
    """
    try:
        encoded = dumps(value) if isinstance(value, Encoded) else without_nul(_plainly(value))
    except (TypeError, UnicodeEncodeError, RecursionError):
        encoded = without_nul(orjson.dumps(_Copy(largest=math.inf).of(value), option=OPTIONS))
    marks = encoded.translate(MARKS) + b","
    if not any(exponent in marks for exponent in EXPONENTS):
        return encoded
    return orjson.dumps(_Copy(largest=math.inf, exponents=False).of(loads(encoded)))


def event_data(value: Any, *, otherwise: Callable[[Any], Any] = lambda said: said) -> bytes:
    """Encode what a graph says; what cannot be encoded is replaced by what says so, and the graph goes on.

    Args:
        value: what it says.
        otherwise: puts what is said instead where it belongs.
    """
    try:
        return dumps(value)
    except Exception as error:  # noqa: BLE001, users' objects
        log.warning("What a graph says cannot be encoded", kind=type(value).__name__, error=type(error).__name__)
        message = f"A {type(value).__name__} cannot be encoded as JSON: {type(error).__name__}"
        return dumps(otherwise({"__unencodable__": message}))


def without_nul(encoded: bytes) -> bytes:
    """Replace the NUL characters in a JSON text."""
    return NUL.sub(rb"\1\\ufffd", encoded) if b"\\u0000" in encoded else encoded


def jsonable(value: Any) -> Any:
    """Turn into what JSON can hold."""
    return loads(dumps(value))


def _plainly(value: Any) -> bytes:
    return orjson.dumps(value, default=_default, option=OPTIONS)


def _default(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, Serializable):
        return value.to_json()
    if isinstance(value, Mapping):
        return dict(cast("Mapping[Any, Any]", value))
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, Iterator):
        return _listed(cast("Iterator[Any]", value))
    if isinstance(value, set | frozenset | deque | Iterable) and not isinstance(value, str):
        return list(cast("Iterable[Any]", value))
    if isinstance(value, BaseException):
        return {"error": type(value).__name__, "message": str(value)}
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, PurePath | IPv4Address | IPv4Network | IPv6Address | IPv6Network):
        return str(value)
    if isinstance(value, re.Pattern):
        return cast("re.Pattern[str]", value).pattern
    for method in ("model_dump", "dict", "_asdict", "to_dict"):
        if callable(found := getattr(value, method, None)) and not isinstance(value, type):
            return found()
    return repr(value)


def _number(value: Decimal) -> int | float | str | None:
    if not value.is_finite():
        return None
    if value.adjusted() >= LARGEST_EXPONENT:
        return str(value)
    return int(value) if value == value.to_integral_value() else float(value)


def _listed(values: Iterator[Any]) -> list[Any]:
    found = list(itertools.islice(values, LONGEST + 1))
    if len(found) > LONGEST:
        raise ValueError(f"an iterator has more than {LONGEST} values")
    return found


class _Copy:
    """Copies what orjson refuses: integers over 64 bits, broken surrogates, keys of any type, endless nesting."""

    def __init__(self, *, largest: float = LARGEST, exponents: bool = True) -> None:
        self._largest = largest
        self._exponents = exponents
        self._around: set[int] = set()
        self._cuts = 0

    def of(self, value: Any) -> Any:
        if isinstance(value, str):
            return value.encode("utf-8", "replace").decode()
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return value if -(2**63) <= value < 2**64 else self._large(int(value))
        if isinstance(value, float):
            return self._float(value) if math.isfinite(value) else None
        if id(value) in self._around or len(self._around) > DEEPEST:
            return self._cut()
        self._around.add(id(value))
        try:
            # Here, and not in a function of its own: Python has room for so many levels, and a graph is deep in it already.
            if isinstance(value, Mapping):
                items = cast("Mapping[Any, Any]", value).items()
                return {self.of(key if isinstance(key, str) else str(key)): self.of(item) for key, item in items}
            if isinstance(value, list | tuple):
                return [self.of(item) for item in cast("Iterable[Any]", value)]
            if dataclasses.is_dataclass(value) and not isinstance(value, type):
                return {field.name: self.of(getattr(value, field.name)) for field in dataclasses.fields(value)}
            try:
                return orjson.loads(orjson.dumps(value, option=OPTIONS))
            except TypeError:
                return self.of(_default(value))
        finally:
            self._around.discard(id(value))

    def _large(self, value: int) -> Any:
        return orjson.Fragment(str(value)) if abs(value) < self._largest else str(value)

    def _float(self, value: float) -> Any:
        written = self._exponents or abs(value) < EXPONENT_FROM
        return value if written else orjson.Fragment(f"{int(value)}.0")

    def _cut(self) -> str:
        self._cuts += 1
        if self._cuts > MOST_CUTS:
            raise ValueError("its parts hold each other")
        return CUT
