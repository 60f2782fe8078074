"""Health and facts about the server."""

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from durathread.api.deps import ServerDep
from durathread.api.json import Json
from durathread.store.pool import connection

router = APIRouter(tags=["System"])

VERSION = version("durathread")


@router.get("/ok", response_model=dict[str, Any])
async def ok(server: ServerDep, check_db: str = "0") -> Response:
    """Say that the server answers; with `check_db=1`, also that its database does."""
    if check_db in ("1", "true"):
        async with connection(server.pool) as conn:
            await conn.execute("SELECT 1")
    return Json({"ok": True, "services": {}})
