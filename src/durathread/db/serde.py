"""What makes bytes of the values of checkpoints, and values of bytes: LangGraph's serializer, as langgraph.json wants it."""

from collections.abc import Mapping
from typing import Any, cast

import structlog
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.event_hooks import SerdeEvent, register_serde_event_listener

from durathread import encryption
from durathread.db.sealed import Cipher
from durathread.db.serializer import Serializer
from durathread.errors import ConfigError

log = structlog.get_logger()

LISTS = ("allowed_json_modules", "allowed_msgpack_modules")
# Large whole numbers are calls of it.
OWN = [("builtins", "int")]
BLOCKED = ("msgpack_blocked", "msgpack_method_blocked")

# Of the process, as the loaders of JSON are: it serves one langgraph.json.
_base: list[SerializerProtocol] = [Serializer().with_msgpack_allowlist(OWN)]


def serializer() -> SerializerProtocol:
    """Return the serializer, which encrypts if there is a key."""
    return EncryptedSerializer(Cipher(), _base[0]) if encryption.is_on() else _base[0]


def use(config: Mapping[str, Any]) -> None:
    """Serialize as `checkpointer.serde` of a langgraph.json says; without it, as LangGraph does.

    Raises:
        ConfigError: it cannot be done; says why.
    """
    _base[0] = Serializer(**options_of(config)).with_msgpack_allowlist(OWN)


def options_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read `checkpointer.serde`: which classes are revived, by `["module", "Class"]`; all if true.

    Raises:
        ConfigError: it is not what it can be.
    """
    block: Any = (config.get("checkpointer") or {}).get("serde")
    if block is None:
        return {}
    if not isinstance(block, Mapping) or set(cast(Mapping[str, Any], block)) - {*LISTS, "pickle_fallback"}:
        raise ConfigError(
            f"langgraph.json: checkpointer.serde takes {', '.join(LISTS)} and pickle_fallback, and nothing else."
        )
    given = cast(Mapping[str, Any], block)
    if not isinstance(given.get("pickle_fallback", False), bool):
        raise ConfigError("langgraph.json: checkpointer.serde.pickle_fallback is true or false.")
    lists = {name: _allowed(name, given[name]) for name in LISTS if name in given}
    return {**lists, "pickle_fallback": given.get("pickle_fallback", False)}


def _allowed(name: str, value: Any) -> Any:
    if value is None or value is True:
        return value
    entries: list[Any] = cast(list[Any], value) if isinstance(value, list) else [None]
    if all(
        isinstance(entry, list) and len(cast(list[Any], entry)) >= 2 and all(isinstance(part, str) for part in entry)  # pyright: ignore[reportUnknownVariableType]
        for entry in entries
    ):
        return [tuple(entry) for entry in entries]
    raise ConfigError(f'langgraph.json: checkpointer.serde.{name} is true, null or a list of ["module", "Class"].')


def _tell(event: SerdeEvent) -> None:
    """Log what was not revived: LangGraph itself says it once for each class."""
    if event["kind"] in BLOCKED:
        log.warning("A class in a checkpoint is not allowed", module=event["module"], name=event["name"])


register_serde_event_listener(_tell)
