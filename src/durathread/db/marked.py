"""What JSON has no room for in the values of items: written as marked text, and read back as what it was."""

import base64
import math
from typing import Any, cast

# Of the characters that Unicode gives no meaning. Text that begins with it is marked itself.
MARK = "\ue000"
FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def marked(value: Any) -> Any:
    """Replace floats that are no numbers, infinite ones and bytes, as deep as they are in dictionaries and lists."""
    try:
        return _marked(value)
    except RecursionError:
        # There is no end to it: the encoder cuts it off.
        return value


def unmarked(value: Any) -> Any:
    """Bring back what was replaced."""
    if isinstance(value, str):
        return _meant(value.removeprefix(MARK)) if value.startswith(MARK) else value
    if isinstance(value, dict):
        return {key: unmarked(item) for key, item in cast(dict[str, Any], value).items()}
    if isinstance(value, list):
        return [unmarked(item) for item in cast(list[Any], value)]
    return value


def _marked(value: Any) -> Any:
    if isinstance(value, str):
        return f"{MARK}text:{value}" if value.startswith(MARK) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else f"{MARK}{float(value)}"
    if isinstance(value, bytes):
        return f"{MARK}bytes:{base64.b64encode(value).decode()}"
    if isinstance(value, dict):
        return {key: _marked(item) for key, item in cast(dict[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        return [_marked(item) for item in cast(list[Any], value)]
    return value


def _meant(text: str) -> Any:
    kind, _, rest = text.partition(":")
    if kind == "bytes":
        return base64.b64decode(rest)
    return rest if kind == "text" else FLOATS.get(text, MARK + text)
