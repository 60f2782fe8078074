from directory import KEYS
from langgraph_sdk import Auth

auth = Auth()


@auth.authenticate
async def authenticate(authorization: str | None) -> Auth.types.MinimalUserDict:
    key = (authorization or "").removeprefix("Bearer ")
    if key not in KEYS:
        raise Auth.exceptions.HTTPException(status_code=401, detail="Who are you?")
    return {"identity": KEYS[key], "is_authenticated": True}


@auth.on
async def own(ctx: Auth.types.AuthContext, value: dict):
    filters = {"owner": ctx.user.identity}
    value.setdefault("metadata", {}).update(filters)
    return filters


@auth.on.assistants
async def all_assistants(ctx: Auth.types.AuthContext, value: dict):
    return None
