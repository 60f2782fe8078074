"""Whose code it is: tells users' files from libraries, in stacks and tracebacks."""

import os
import site
import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path
from traceback import FrameSummary, StackSummary
from types import FrameType, TracebackType

_LIBRARIES = tuple(
    os.path.join(path, "")
    for path in {
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
        str(Path(__file__).parents[1]),
    }
)


def is_users(filename: str) -> bool:
    """Whether a file is of the user's project: no library's, and none of ours."""
    return not filename.startswith(("<", *_LIBRARIES))


def line_of(frame: FrameType) -> str:
    """Name the user's line that a stack is on: the innermost one, or the innermost of all if there is none."""
    stack = traceback.extract_stack(frame)
    own = [found for found in stack if is_users(found.filename)]
    return named((own or list(stack))[-1])


def named(place: FrameSummary) -> str:
    """Name a line."""
    return f"{place.filename}:{place.lineno} in {place.name}"


def users_part(trace: TracebackType | None) -> Sequence[FrameSummary]:
    """Read what of a traceback lies in users' code, and what that calls; all of it if there is none."""
    places: StackSummary = traceback.extract_tb(trace)
    first = next((number for number, place in enumerate(places) if is_users(place.filename)), 0)
    return places[first:]
