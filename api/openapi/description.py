"""The description of the API, with what the custom app says of its own."""

from typing import Any

import orjson
from fastapi import FastAPI
from starlette.applications import Starlette

SCHEMAS = "#/components/schemas/"


def describe(app: FastAPI, custom: Starlette | None) -> None:
    """Let `/openapi.json` describe the routes of the custom app as well, if that describes them itself."""
    if not isinstance(custom, FastAPI) or custom.openapi_url is None:
        return
    ours = app.openapi

    def openapi() -> dict[str, Any]:
        return merged(ours(), custom.openapi())

    app.openapi = openapi


def merged(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Merge two descriptions. An operation of theirs takes the place of ours; a schema of theirs gets another name."""
    known = ours.get("components", {}).get("schemas", {})
    theirs = _renamed(theirs, known)
    paths, components = dict(ours["paths"]), dict(ours.get("components", {}))
    for path, operations in theirs.get("paths", {}).items():
        paths[path] = {**paths.get(path, {}), **operations}
    for kind, named in theirs.get("components", {}).items():
        components[kind] = {**components.get(kind, {}), **named}
    return {**ours, "paths": paths, "components": components}


def _renamed(theirs: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """Rename the schemas that are called like others of ours."""
    schemas = theirs.get("components", {}).get("schemas", {})
    text = orjson.dumps(theirs).decode()
    names = dict[str, str]()
    for name, schema in schemas.items():
        if name in known and known[name] != schema:
            names[name] = f"Custom{name}"
            text = text.replace(f'"{SCHEMAS}{name}"', f'"{SCHEMAS}{names[name]}"')
    renamed = orjson.loads(text)
    if names:
        found = renamed["components"]["schemas"]
        renamed["components"]["schemas"] = {names.get(name, name): schema for name, schema in found.items()}
    return renamed
