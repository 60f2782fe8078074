"""Everybody sees what they have created: threads and assistants by their owner, items by their namespace."""

from typing import Any

from langgraph_sdk import Auth

USERS = ("alice", "bob")

auth = Auth()


@auth.authenticate
async def authenticate(authorization: str | None) -> Auth.types.MinimalUserDict:
    """Take the token for the name."""
    scheme, _, name = (authorization or "").partition(" ")
    if scheme != "Bearer" or name not in USERS:
        raise Auth.exceptions.HTTPException(401, "Who are you?", headers={"WWW-Authenticate": "Bearer"})
    user: Any = {"identity": name, "display_name": name.title(), "permissions": ["chat"], "org": {"name": "acme"}}
    return user


@auth.on
async def own(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> Auth.types.FilterType:
    """Stamp what is created, and show only that."""
    value.setdefault("metadata", {})["owner"] = ctx.user.identity
    return {"owner": ctx.user.identity}


@auth.on.store
async def scope(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> None:
    """Keep everybody within their own namespace."""
    namespace = tuple(value["namespace"]) if value.get("namespace") else ()
    if not namespace or namespace[0] != ctx.user.identity:
        namespace = (ctx.user.identity, *namespace)
    value["namespace"] = namespace
