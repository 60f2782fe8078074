"""Authentication and authorization that do what the token says, which is JSON.

`user`: what `authenticate` returns. `until`: the file that ends the token when it is there. `raise`: what it raises instead. `on`: by `resource.action`, or `*`, what the
handler does: refuse `if` a file exists, `return` something, `raise` something, `quote` a key of the value, `stamp` metadata, `set` keys of the value.
"""

import json
from pathlib import Path
from typing import Any, cast

from langgraph_sdk import Auth

auth = Auth()


def fail(how: dict[str, Any]) -> None:
    """Raise what is asked for."""
    if "status" in how:
        raise Auth.exceptions.HTTPException(how["status"], how.get("detail"), how.get("headers"))
    if "assertion" in how:
        raise AssertionError(how["assertion"])
    raise RuntimeError(how["error"])


@auth.authenticate
def authenticate(
    authorization: str | None,
    body: Any,
    method: str,
    path: str,
    path_params: dict[str, str],
    headers: dict[bytes, bytes],
) -> Any:
    """Do what the token says."""
    if not authorization:
        raise Auth.exceptions.HTTPException(401, "No token")
    script: dict[str, Any] = json.loads(authorization.removeprefix("Bearer "))
    if "until" in script and Path(script["until"]).exists():
        raise Auth.exceptions.HTTPException(401, "Expired")
    if "raise" in script:
        fail(script["raise"])
    user = script.get("user", {"identity": "somebody"})
    if isinstance(user, dict):
        given = {"body": body, "method": method, "path": path, "path_params": path_params}
        return {**user, "given": given, "agent": headers[b"user-agent"].decode(), "on": script.get("on", {})}
    return user


@auth.on
async def handle(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> Any:
    """Do what the token says."""
    rules: dict[str, Any] = cast(Any, ctx.user)["on"]
    rule = rules.get(f"{ctx.resource}.{ctx.action}", rules.get("*", {}))
    if "if" in rule and Path(rule["if"]).exists():  # noqa: ASYNC240, a file of a test
        return False
    if "raise" in rule:
        fail(rule["raise"])
    if "quote" in rule:
        raise Auth.exceptions.HTTPException(418, json.dumps(value.get(rule["quote"])))
    if "stamp" in rule:
        value.setdefault("metadata", {}).update(rule["stamp"])
    value.update(rule.get("set", {}))
    return rule.get("return")
