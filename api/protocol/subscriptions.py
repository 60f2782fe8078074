"""What a client of the protocol wants to see: channels, and namespaces down to a depth."""

from dataclasses import dataclass
from typing import Any, cast

from durathread.errors import BadRequest
from durathread.records import JsonObject
from durathread.streams.events import Event
from durathread.streams.frames import parts

CHANNELS = ("values", "updates", "messages", "tools", "lifecycle", "input", "checkpoints", "tasks", "custom")
CUSTOM = "custom:"


@dataclass(frozen=True)
class Subscription:
    """A filter of frames."""

    channels: frozenset[str]
    namespaces: tuple[tuple[str, ...], ...] | None = None
    depth: int | None = None

    @classmethod
    def of(cls, params: JsonObject) -> "Subscription":
        """Read the parameters of a subscription.

        Raises:
            BadRequest: they are not valid.
        """
        return cls(_channels(params.get("channels")), _namespaces(params.get("namespaces")), number(params, "depth"))

    def takes(self, entry: Event) -> bool:
        """Whether an entry of a thread's frames is wanted."""
        channel, namespace = parts(entry)
        if channel not in self.channels and not (channel.startswith(CUSTOM) and "custom" in self.channels):
            return False
        return not self.namespaces or any(self._within(namespace, prefix) for prefix in self.namespaces)

    def _within(self, namespace: list[str], prefix: tuple[str, ...]) -> bool:
        if len(prefix) > len(namespace) or not all(map(_is_segment, namespace, prefix)):
            return False
        return self.depth is None or len(namespace) - len(prefix) <= self.depth


def number(params: JsonObject, name: str) -> int | None:
    """Read a number that need not be there.

    Raises:
        BadRequest: it is none.
    """
    value = params.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadRequest(f"Invalid {name}: must be an integer, 0 or more")
    return value


def _is_segment(segment: str, wanted: str) -> bool:
    """Whether a segment, `node:task`, is the one wanted; a node alone stands for all of its tasks."""
    return segment == wanted or (":" not in wanted and segment.partition(":")[0] == wanted)


def _channels(value: Any) -> frozenset[str]:
    if not isinstance(value, list) or not value:
        raise BadRequest("Invalid channels: must be a list of at least one channel")
    found = cast(list[Any], value)
    for channel in found:
        named = isinstance(channel, str) and channel.startswith(CUSTOM) and channel != CUSTOM
        if channel not in CHANNELS and not named:
            raise BadRequest(f"Invalid channel {channel!r}: must be {', '.join(CHANNELS)} or custom:<name>")
    return frozenset(found)


def _namespaces(value: Any) -> tuple[tuple[str, ...], ...] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise BadRequest("Invalid namespaces: must be a list of lists of strings")
    found = list[tuple[str, ...]]()
    for item in cast(list[Any], value):
        if not isinstance(item, list) or not all(isinstance(part, str) for part in cast(list[Any], item)):
            raise BadRequest("Invalid namespaces: must be a list of lists of strings")
        found.append(tuple(cast(list[str], item)))
    return tuple(found)
