"""What the world may read of an exception that a graph raised."""

import asyncio
import builtins
import re
from typing import Any

import langgraph.errors
from langgraph.errors import (
    EmptyInputError,
    GraphBubbleUp,
    InvalidUpdateError,
    NodeCancelledError,
    NodeTimeoutError,
    TaskNotFound,
    UnknownInterruptError,
)
from starlette.exceptions import HTTPException

from durathread.errors import Error
from durathread.records import JsonObject

MASK = "An internal error occurred"

# Errors whose text is about the request or the graph; others may carry secrets of the services behind it.
SHOWN = (
    Error,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RuntimeError,
    RecursionError,
    TimeoutError,
    HTTPException,
    EmptyInputError,
    GraphBubbleUp,
    InvalidUpdateError,
    NodeCancelledError,
    NodeTimeoutError,
    TaskNotFound,
    UnknownInterruptError,
    asyncio.CancelledError,
)

# Checkpoints keep an exception as its `repr`: its class can only be told by name.
REPR = re.compile(r"([A-Za-z_]\w*)\(")
SHOWN_NAMES = frozenset(
    name
    for module in (builtins, asyncio, langgraph.errors)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and issubclass(kind, SHOWN)
) | {HTTPException.__name__}


def describe(error: BaseException) -> JsonObject:
    """Name an exception and, if its kind is known to be harmless, quote it."""
    return {"error": type(error).__name__, "message": str(error) if isinstance(error, SHOWN) else MASK}


def masked(error: Any) -> str:
    """Show an exception as its `repr`; of a kind that may carry secrets, only its name."""
    if isinstance(error, BaseException):
        return repr(error) if isinstance(error, SHOWN) else f"{type(error).__name__}({MASK!r})"
    found = REPR.match(str(error))
    if found is None:
        return MASK
    return str(error) if found[1] in SHOWN_NAMES else f"{found[1]}({MASK!r})"
