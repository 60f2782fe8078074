"""What becomes of an exception that a graph raised: what the world may read of it, and what the log says."""

import asyncio
import builtins
import re
import sys
from types import TracebackType
from typing import Any

import langgraph.errors
import structlog
from langgraph.errors import (
    EmptyInputError,
    GraphBubbleUp,
    InvalidUpdateError,
    NodeCancelledError,
    NodeTimeoutError,
    TaskNotFound,
    UnknownInterruptError,
)
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from durathread import encryption
from durathread.errors import Error
from durathread.graphs.loops import Raised
from durathread.process.sources import is_users
from durathread.records import JsonObject, Run

log = structlog.get_logger()

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


# What LangGraph notes on an exception that a node raised.
NOTE = re.compile(r"During task with name '(.*)' and id '")
# As much of a text as Temporal's history is given, in characters.
GLIMPSE = 200


def describe(error: BaseException) -> JsonObject:
    """Name an exception and, if its kind is known to be harmless, quote it."""
    error = cause_of(error)
    return {"error": type(error).__name__, "message": shown_text(error)}


def shown_text(error: BaseException) -> str:
    """Return what the world may read of an exception's text.

    That of a subclass is shown if the class is Python's, LangGraph's or the user's own: another library's may quote anything.
    """
    if isinstance(error, ValidationError):
        return _without_inputs(error)
    return text_of(error) if isinstance(error, SHOWN) and _is_known(type(error)) else MASK


def glimpse(described: JsonObject) -> str:
    """Say in a few words what the world may read of an exception."""
    name, message = str(described.get("error", "")), str(described.get("message", ""))
    # Temporal keeps it in clear.
    return name if message in ("", MASK) or encryption.is_on() else f"{name}: {message}"[:GLIMPSE]


def cause_of(error: BaseException) -> BaseException:
    """Return what users' code has raised."""
    return error.__cause__ if isinstance(error, Raised) and error.__cause__ is not None else error


def text_of(error: BaseException) -> str:
    """Return the text of an exception, whatever its class makes of that."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001, users' code
        return f"a {type(error).__name__} whose text cannot be read"


def node_of(error: BaseException) -> str:
    """Name the node that raised, with the subgraphs that it is in; empty if LangGraph has not said."""
    notes = getattr(error, "__notes__", ())
    names = [found[1] for note in notes if isinstance(note, str) and (found := NOTE.match(note))]
    return ":".join(reversed(names))


def report(run: Run, error: BaseException, *, node: str = "") -> None:
    """Log the failure of a run: one line, whatever its client reads."""
    error = cause_of(error)
    log.error(
        "A run has failed",
        run_id=str(run.run_id),
        thread_id=str(run.thread_id),
        graph_id=run.graph_id,
        node=node_of(error) or node,
        attempt=run.retries + 1,
        error=type(error).__name__,
        message=text_of(error),
        exc_info=(type(error), error, _users(error.__traceback__)),
    )


def _users(trace: TracebackType | None) -> TracebackType | None:
    """Leave out of a traceback what led to users' code; all of it stays if there is none."""
    part = trace
    while part is not None and not is_users(part.tb_frame.f_code.co_filename):
        part = part.tb_next
    return part or trace


def masked(error: Any) -> str:
    """Show an exception as its `repr`; of a kind that may carry secrets, only its name."""
    if isinstance(error, BaseException):
        if isinstance(error, SHOWN) and _is_known(type(error)) and not isinstance(error, ValidationError):
            return _repr(error)
        return f"{type(error).__name__}({shown_text(error)!r})"
    found = REPR.match(str(error))
    if found is None:
        return MASK
    return str(error) if found[1] in SHOWN_NAMES else f"{found[1]}({MASK!r})"


def _is_known(kind: type) -> bool:
    root = kind.__module__.partition(".")[0]
    if root in sys.stdlib_module_names or root in ("langgraph", "durathread", "starlette", "fastapi"):
        return True
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    # What has no file was written where it runs.
    return file is None or is_users(file)


def _without_inputs(error: ValidationError) -> str:
    """Say what pydantic says, but not what it was given."""
    try:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        lines = [f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in found]
    except Exception:  # noqa: BLE001, users' validators
        return MASK
    return "\n".join([f"{error.error_count()} validation error{'s'[: len(found) != 1]} for {error.title}", *lines])


def _repr(error: BaseException) -> str:
    try:
        return repr(error)
    except Exception:  # noqa: BLE001, users' code
        return f"{type(error).__name__}({text_of(error)!r})"
