"""JSON in the database that may be sealed: all of a value, or parts of it."""

import base64
from collections.abc import Collection
from typing import Any, cast

import orjson
from langgraph.checkpoint.serde.base import CipherProtocol
from psycopg.types.json import Jsonb

from durathread import encode, encryption
from durathread.encode import dumps_for_postgres as dumps
from durathread.errors import NotStored
from durathread.records import JsonObject

SEALED = "durathread:sealed"
MARK = f'"{SEALED}":'.encode()
# What is empty says nothing, and SQL compares with it.
EMPTY = (b"null", b"{}", b"[]")
# The outbox holds a run, which holds its kwargs, which hold an input.
DEEPEST = 3
CIPHER = "durathread"


def sealed(value: Any) -> Jsonb:
    """Build a parameter that is sealed as a whole."""
    return Jsonb(value, dumps=_whole)


def sealed_in(value: JsonObject, names: Collection[str]) -> Jsonb:
    """Build a parameter of an object of which these keys are sealed: SQL reads the others."""

    def dump(given: JsonObject) -> bytes:
        parts = {name: orjson.Fragment(_whole(given[name])) for name in names if name in given}
        # Users' JSON may not look as if it were sealed.
        plain({name: part for name, part in given.items() if name not in parts})
        return dumps({**given, **parts})

    return Jsonb(value, dumps=dump) if encryption.is_on() else Jsonb(value)


def sealed_error(error: JsonObject | None) -> Jsonb | None:
    """Build a parameter of what has failed: its text may quote anything."""
    return sealed_in(error, ("message",)) if error else None


def plain(value: Any) -> bytes:
    """Encode what is not sealed.

    Raises:
        NotStored: it looks as if it were.
    """
    text = dumps(value)
    if MARK in text:
        raise NotStored(f"{SEALED} is no key of JSON that is stored.")
    return text


def loads(data: str | bytes) -> Any:
    """Decode JSON of the database, and decrypt what of it is sealed.

    Raises:
        Unreadable: there is no key for it.
    """
    value = encode.loads(data)
    text = data.encode() if isinstance(data, str) else data
    return _opened(value, DEEPEST) if MARK in text else value


class Cipher(CipherProtocol):
    """Seals checkpoints for LangGraph's `EncryptedSerializer`."""

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        """Encrypt."""
        return CIPHER, encryption.sealed(plaintext)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        """Decrypt.

        Raises:
            Unreadable: there is no key for it.
        """
        if ciphername != CIPHER:
            raise encryption.Unreadable(f"A checkpoint is encrypted by {ciphername}, which is not ours.")
        return encryption.unsealed(ciphertext)


def _whole(value: Any) -> bytes:
    text = dumps(value)
    if not encryption.is_on() or text in EMPTY:
        return plain(value)
    return dumps({SEALED: base64.b64encode(encryption.sealed(text)).decode()})


def _opened(value: Any, depth: int) -> Any:
    if not isinstance(value, dict):
        return value
    found = cast(JsonObject, value)
    if len(found) == 1 and isinstance(text := found.get(SEALED), str):
        return encode.loads(encryption.unsealed(base64.b64decode(text)))
    return {name: _opened(part, depth - 1) for name, part in found.items()} if depth else found
