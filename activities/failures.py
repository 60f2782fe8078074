"""What the world may read of an exception that a graph raised."""

import asyncio

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

from durathread.records import JsonObject

MASK = "An internal error occurred"

# Errors whose text is about the request or the graph; others may carry secrets of the services behind it.
SHOWN = (
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


def describe(error: BaseException) -> JsonObject:
    """Name an exception and, if its kind is known to be harmless, quote it."""
    return {"error": type(error).__name__, "message": str(error) if isinstance(error, SHOWN) else MASK}
