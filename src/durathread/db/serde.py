"""What makes bytes of the values of checkpoints, and values of bytes: LangGraph's serializer, as langgraph.json wants it."""

from collections.abc import Mapping
from typing import Any

import structlog
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.event_hooks import SerdeEvent, register_serde_event_listener

from durathread import encryption
from durathread.db.sealed import Cipher
from durathread.db.serializer import Serializer

log = structlog.get_logger()

# Large whole numbers are calls of it.
OWN = [("builtins", "int")]
BLOCKED = ("msgpack_blocked", "msgpack_method_blocked")

# Of the process, as the loaders of JSON are: it serves one langgraph.json.
_base: list[SerializerProtocol] = [Serializer().with_msgpack_allowlist(OWN)]


def serializer() -> SerializerProtocol:
    """Return the serializer, which encrypts if there is a key."""
    return EncryptedSerializer(Cipher(), _base[0]) if encryption.is_on() else _base[0]


def use(options: Mapping[str, Any]) -> None:
    """Serialize with these options of LangGraph's serializer; without any, as LangGraph does."""
    _base[0] = Serializer(**options).with_msgpack_allowlist(OWN)


def _tell(event: SerdeEvent) -> None:
    """Log what was not revived: LangGraph itself says it once for each class."""
    if event["kind"] in BLOCKED:
        log.warning("A class in a checkpoint is not allowed", module=event["module"], name=event["name"])


register_serde_event_listener(_tell)
