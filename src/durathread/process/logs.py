"""How the server logs: text for people, or JSON lines. The standard library's loggers write the same."""

import logging
import os
import re
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

# What must not reach a terminal or a line of its own: control characters, separators of lines, and halves of surrogate pairs.
# What turns the direction of writing, too: a line would show something else than it says.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# Characters of a value; of a traceback. A request must not fill the disk with what it quotes.
LONGEST, LONGEST_TRACE = 8_000, 64_000
TRACES = ("exception", "stack")
PLAIN = (str, int, float, bool, type(None))
QUIET = ("httpx", "httpcore")


def configure(level: str = "INFO", *, json: bool = False) -> None:
    """Set up logging for this process, to stdout."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if json else "%H:%M:%S", utc=json),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(json=json)],
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


def _rendering(*, json: bool) -> list[Processor]:
    if json:
        return [structlog.processors.format_exc_info, _readable, structlog.processors.JSONRenderer()]
    colors = "NO_COLOR" not in os.environ and ("FORCE_COLOR" in os.environ or sys.stdout.isatty())
    console = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
    return [structlog.processors.format_exc_info, _readable, _printable, console]


def _readable(_: Any, __: str, event: EventDict) -> EventDict:
    """Turn what is no plain value into text here, where an object that cannot describe itself costs no line."""
    return {key: _cut(key, value if isinstance(value, PLAIN) else _described(value)) for key, value in event.items()}


def _cut(key: str, value: object) -> object:
    longest = LONGEST_TRACE if key in TRACES else LONGEST
    if isinstance(value, str):
        return value if len(value) <= longest else f"{value[:longest]}… ({len(value)} characters)"
    # What a list holds may describe itself at any length.
    return value if isinstance(value, PLAIN) or len(_text(value)) <= longest else _cut(key, _text(value))


def _described(value: object) -> object:
    return value if isinstance(value, list | tuple | dict) else _text(value)


def _text(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001, whatever it raises
        return f"<{type(value).__name__}>"


def _printable(_: Any, __: str, event: EventDict) -> EventDict:
    """Write out control characters, which could forge lines or steer a terminal; a traceback keeps its lines, indented."""
    for key, found in event.items():
        # What a list holds may describe itself by anything.
        value = found if isinstance(found, PLAIN) or not UNPRINTABLE.search(_text(found)) else _text(found)
        if isinstance(value, str):
            lines = value.split("\n") if key in TRACES else [value]
            event[key] = "\n  ".join(UNPRINTABLE.sub(_escaped, line) for line in lines)
    return event


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode()
