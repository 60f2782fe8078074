"""docker-compose.yml, read as Docker Compose reads it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
VARIABLE = re.compile(r"\$\{(?P<name>\w+):(?:-(?P<default>[^}]*)|\?[^}]*)\}")
PASSWORDS = ("POSTGRES_PASSWORD", "DURATHREAD_PASSWORD", "TEMPORAL_PASSWORD", "VALKEY_PASSWORD")


def services(variables: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """Return the services by name, with `variables` in the place of the shell's."""
    given = variables or {}
    return {name: _filled(service, given) for name, service in _read()["services"].items()}


def default(name: str) -> str:
    """Return what a variable is when the shell does not set it."""
    found = {match["default"] for match in VARIABLE.finditer(_text()) if match["name"] == name}
    [value] = found
    return value


def _text() -> str:
    return (ROOT / "docker-compose.yml").read_text()


def _read() -> dict[str, Any]:
    return yaml.safe_load(_text())


def _filled(part: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(part, str):
        return VARIABLE.sub(lambda match: variables.get(match["name"]) or _default(match), part)
    if isinstance(part, list):
        return [_filled(each, variables) for each in part]
    if isinstance(part, dict):
        return {key: _filled(each, variables) for key, each in part.items()}
    return part


def _default(match: re.Match[str]) -> str:
    """Return what stands for a variable that nobody has set; something, where Compose would refuse to start."""
    return "unset" if match["default"] is None else match["default"]
