"""The security schemes that /openapi.json shows."""

from typing import Any

from fastapi import FastAPI

from durathread.records import JsonObject


def describe(app: FastAPI, block: JsonObject) -> None:
    """Add `auth.openapi` of langgraph.json: its `securitySchemes`, and the `security` that all routes require."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        schema = described()
        components = schema.setdefault("components", {})
        components.setdefault("securitySchemes", {}).update(block.get("securitySchemes", {}))
        if block.get("security"):
            schema["security"] = block["security"]
        return schema

    # FastAPI's documented way to extend its schema.
    app.openapi = openapi
