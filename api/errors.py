"""Every error leaves as `{"detail": "<string>"}`."""

from typing import Any, cast

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from psycopg import OperationalError
from psycopg.errors import ProgramLimitExceeded
from pydantic import BaseModel
from redis.exceptions import ConnectionError as RedisConnectionError
from starlette.exceptions import HTTPException

from durathread.api.json import Json
from durathread.errors import Error

log = structlog.get_logger()


# What FastAPI says of a body that is not UTF-8, or is nested too deep.
UNREADABLE = "There was an error parsing the body"


class Problem(BaseModel):
    """Why a request was not carried out."""

    detail: str


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Declare the error statuses of a route for OpenAPI; 422 and 503 are declared for all."""
    return {status: {"model": Problem} for status in (*statuses, 422, 503)}


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Json:
    """Build an error response."""
    return Json({"detail": detail}, status_code=status, headers=headers)


def register(app: FastAPI) -> None:
    """Render every exception that routes raise."""
    app.add_exception_handler(Error, _expected)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(ProgramLimitExceeded, _too_large)
    app.add_exception_handler(OperationalError, _engine_down)
    app.add_exception_handler(RedisConnectionError, _engine_down)
    app.add_exception_handler(Exception, unexpected)


async def _expected(_: Request, error: Exception) -> Json:
    return problem(cast(Error, error).status, str(error))


async def _invalid(_: Request, error: Exception) -> Json:
    found = cast(RequestValidationError, error).errors()
    if any(item["type"] == "json_invalid" for item in found):
        return problem(422, "Invalid JSON in request body")
    return problem(422, "\n".join(_line(item) for item in found))


def _line(item: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in item["loc"] if part != "body")
    return f"{where}: {item['msg']}" if where else str(item["msg"])


async def refused(_: Request, error: Exception) -> Json:
    """Render what Starlette's routing, or a route, has refused."""
    failure = cast(HTTPException, error)
    if failure.detail == UNREADABLE:
        return problem(422, "Invalid JSON in request body")
    headers = dict(failure.headers) if failure.headers else None
    return problem(failure.status_code, str(failure.detail), headers)


async def _too_large(_: Request, error: Exception) -> Json:
    """Refuse what Postgres has no room for: it never will have."""
    log.info("Too large to be stored", error=str(error))
    return problem(422, "Too large to be stored")


async def _engine_down(_: Request, error: Exception) -> Json:
    log.error("An engine is unavailable", error=str(error))
    return problem(503, "Service Unavailable")


async def unexpected(_: Request, error: Exception) -> Json:
    """Log a bug, and say nothing of it."""
    log.error("Unhandled error", exc_info=error)
    return problem(500, "Internal Server Error")
