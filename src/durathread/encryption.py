"""Encryption of what is stored, with keys from the environment.

What is sealed is AES-GCM under a key of its process: derived from the key of the environment and a random salt, so that random
nonces do not wear one key out, however many processes write.
"""

import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from durathread.errors import ConfigError, Unavailable

if TYPE_CHECKING or find_spec("cryptography"):
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

# As LangGraph and the vendor's server call it.
KEY = "LANGGRAPH_AES_KEY"
# Those that older data is read with, separated by spaces.
OLD_KEYS = "DURATHREAD_OLD_AES_KEYS"
LENGTHS = (16, 24, 32)

# Before all that is sealed: no JSON begins so.
MAGIC = b"\x00sealed1"
NAME, SALT, NONCE = 16, 16, 12
HEAD = len(MAGIC) + NAME + SALT + NONCE


class Unreadable(Unavailable):
    """What is stored cannot be read with the keys that there are. It is not lost: somebody must bring the key."""


@dataclass(frozen=True)
class _Key:
    """A key of the environment, and what this process writes with."""

    secret: bytes = field(repr=False)
    salt: bytes = field(default_factory=lambda: os.urandom(SALT), repr=False)

    @property
    def name(self) -> str:
        """Names the key and says nothing of it."""
        return _derived(self.secret, b"durathread key name")[: NAME // 2].hex()


@dataclass(frozen=True)
class Keys:
    """What is written with, if anything is sealed, and what is read with."""

    current: _Key | None = None
    known: Mapping[str, _Key] = field(default_factory=dict[str, _Key])

    def seal(self, plain: bytes) -> bytes:
        """Encrypt. Only where there is a current key."""
        assert self.current is not None
        nonce = os.urandom(NONCE)
        head = MAGIC + self.current.name.encode() + self.current.salt + nonce
        return head + _cipher(self.current.secret, self.current.salt).encrypt(nonce, plain, head)

    def unseal(self, sealed: bytes) -> bytes:
        """Decrypt.

        Raises:
            Unreadable: none of the keys has encrypted it, or it is not what was written.
        """
        head = sealed[:HEAD]
        name = head[len(MAGIC) : len(MAGIC) + NAME].decode("ascii", "replace")
        key = self.known.get(name)
        if key is None:
            raise Unreadable(f"It is encrypted with another key ({name}): set {KEY}, or name it in {OLD_KEYS}.")
        try:
            return _cipher(key.secret, head[len(MAGIC) + NAME : -NONCE]).decrypt(head[-NONCE:], sealed[HEAD:], head)
        except InvalidTag:
            raise Unreadable("What is stored was changed by somebody who does not have the key.") from None


def keys() -> Keys:
    """Return the keys of the environment.

    Raises:
        ConfigError: one of them is none.
    """
    return _keys(os.environ.get(KEY, ""), os.environ.get(OLD_KEYS, ""))


def is_on() -> bool:
    """Whether what is stored is encrypted."""
    return keys().current is not None


def unsealed(data: bytes) -> bytes:
    """Decrypt what may be sealed."""
    return keys().unseal(data) if data.startswith(MAGIC) else data


def sealed(data: bytes) -> bytes:
    """Encrypt, if what is stored is encrypted."""
    held = keys()
    return held.seal(data) if held.current else data


@lru_cache(maxsize=4)
def _keys(current: str, old: str) -> Keys:
    if not current and not old.strip():
        return Keys()
    if not find_spec("cryptography"):
        raise ConfigError(f"{KEY} needs the package cryptography: pip install 'durathread[encryption]'.")
    own = _Key(_checked(current, KEY)) if current else None
    read = [*([own] if own else []), *(_Key(_checked(text, OLD_KEYS)) for text in old.split())]
    return Keys(own, {key.name: key for key in reversed(read)})


def _checked(text: str, variable: str) -> bytes:
    secret = text.encode()
    if len(secret) not in LENGTHS:
        raise ConfigError(f"{variable} has a key of {len(secret)} bytes: 16, 24 or 32 are needed.")
    return secret


@lru_cache(maxsize=1024)
def _cipher(secret: bytes, salt: bytes) -> "AESGCM":
    return AESGCM(_derived(secret, b"durathread at rest" + salt))


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return hmac.new(secret, purpose, hashlib.sha256).digest()
