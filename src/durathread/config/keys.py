"""The keys of langgraph.json: which are honoured, which are for others, and which cannot be ignored."""

from collections.abc import Mapping
from typing import Any, Literal

import structlog

from durathread import encryption
from durathread.errors import ConfigError

log = structlog.get_logger()

Fate = Literal["honoured", "ignored", "refused"]

KEYS: Mapping[str, Fate] = {
    "graphs": "honoured",
    "dependencies": "honoured",
    "env": "honoured",
    "auth": "honoured",
    "http": "honoured",
    "store": "honoured",
    "checkpointer": "honoured",
    "webhooks": "honoured",
    "fairness": "honoured",
    "temporal": "honoured",
    "quotas": "honoured",
    "on_interrupt": "honoured",
    # Who asks for these would take what is stored for encrypted, or for stored elsewhere.
    "encryption": "refused",
    "store.path": "refused",
    "checkpointer.backend": "refused",
    "checkpointer.path": "ignored",
    "ui": "ignored",
    "ui_config": "ignored",
    "priority": "ignored",
    "disable_persistence": "ignored",
    # What follows builds images.
    "api_version": "ignored",
    "base_image": "ignored",
    "dockerfile_lines": "ignored",
    "image_distro": "ignored",
    "keep_pkg_tools": "ignored",
    "node_version": "ignored",
    "pip_config_file": "ignored",
    "pip_installer": "ignored",
    "python_version": "ignored",
    "source": "ignored",
}
# Ignored as well, but said: whoever asks for these would look for what they do.
WARNED = {
    "checkpointer.path": "checkpoints are kept in the server's own Postgres",
    "ui": "no components of pages are served",
}
# The only one of the backends that is ours.
POSTGRES = "default"


def check_keys(config: Mapping[str, Any]) -> None:
    """Look at what a langgraph.json asks for.

    Raises:
        ConfigError: it asks for what cannot be done, and cannot be left undone.
    """
    # Whoever sets a key that is none would take what is stored for encrypted.
    encryption.keys()
    for key in _asked(config):
        fate = KEYS.get(key)
        if fate == "refused":
            raise ConfigError(
                f"langgraph.json: {key} is not supported, and cannot be ignored: what is stored would be wrong."
            )
        if key in WARNED:
            log.warning("langgraph.json asks for what is not done", key=key, instead=WARNED[key])
        if fate is None and "." not in key:
            log.warning("langgraph.json has a key that is not known", key=key)


def _asked(config: Mapping[str, Any]) -> list[str]:
    """List the keys of a langgraph.json, those of its objects with a dot; not those that ask for nothing."""
    found = list[str]()
    for key, value in config.items():
        found.append(key)
        if isinstance(value, Mapping):
            inner: Mapping[str, Any] = value
            found += [f"{key}.{name}" for name, asked in inner.items() if asked not in (None, "", POSTGRES)]
    return [key for key in found if not key.startswith("$") and config.get(key, True) not in (None, {})]
