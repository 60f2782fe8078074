"""A durable, open agent server: LangGraph graphs served over HTTP and executed on Temporal.

What an application may import is listed here; all other modules are internal, and change without notice.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durathread.config.settings import Settings
    from durathread.plugin import DurathreadPlugin
    from durathread.runs.signals import start_run
    from durathread.workflows.messages import RunRequest

__all__ = ["DurathreadPlugin", "RunRequest", "Settings", "__version__", "start_run"]

__version__ = version("durathread")

# Imported when they are asked for: who runs a command need not wait for all of them.
_HOMES = {
    "DurathreadPlugin": "durathread.plugin",
    "RunRequest": "durathread.workflows.messages",
    "Settings": "durathread.config.settings",
    "start_run": "durathread.runs.signals",
}


def __getattr__(name: str) -> Any:
    """Import what the package exports."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List what the package exports."""
    return sorted({*globals(), *_HOMES})
