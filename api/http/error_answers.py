"""Every error leaves as `{"detail": "<string>"}`."""

from typing import Any, cast

import psycopg
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from psycopg.errors import ProgramLimitExceeded
from pydantic import BaseModel
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout
from starlette.exceptions import HTTPException
from temporalio.service import RPCError, RPCStatusCode

from durathread.api.http.json_answers import Json
from durathread.db.pool import is_clash, is_outage, refusal
from durathread.errors import Error, TooMany

log = structlog.get_logger()


TEMPORAL_AWAY = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.RESOURCE_EXHAUSTED)
# What FastAPI says of a body that is not UTF-8, or is nested too deep.
UNREADABLE = "There was an error parsing the body"
RETRY_AFTER = {"Retry-After": {"description": "In seconds.", "schema": {"type": "integer"}}}


class Problem(BaseModel):
    """Why a request was not carried out."""

    detail: str


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Declare the error statuses of a route for OpenAPI; 422 and 503 are declared for all."""
    found: dict[int | str, dict[str, Any]] = {status: {"model": Problem} for status in (*statuses, 422, 503)}
    if TooMany.status in found:
        found[TooMany.status] |= {"description": "As many as a quota allows.", "headers": RETRY_AFTER}
    return found


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Json:
    """Build an error response."""
    return Json({"detail": detail}, status_code=status, headers=headers)


def register(app: FastAPI) -> None:
    """Render every exception that routes raise."""
    app.add_exception_handler(Error, _expected)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(ProgramLimitExceeded, _too_large)
    app.add_exception_handler(psycopg.Error, _of_database)
    app.add_exception_handler(RPCError, _of_temporal)
    app.add_exception_handler(RedisConnectionError, _engine_down)
    app.add_exception_handler(RedisTimeout, _engine_down)
    app.add_exception_handler(Exception, unexpected)


async def _expected(request: Request, error: Exception) -> Json:
    status = cast(Error, error).status
    if status >= 500:
        _report(request, error, status=status)
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, TooMany) else None
    return problem(status, str(error), headers)


def _report(request: Request, error: Exception, *, status: int, trace: Exception | None = None) -> None:
    """Log why a request was not carried out."""
    cause = error.__cause__
    log.error(
        "A request failed",
        status=status,
        method=request.method,
        path=request.url.path,
        request_id=request.headers.get("x-request-id", ""),
        error=f"{type(error).__name__}: {error}",
        **({"cause": f"{type(cause).__name__}: {cause}"} if cause is not None else {}),
        exc_info=trace,
    )


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


async def _of_database(request: Request, error: Exception) -> Json:
    if is_outage(error):
        return await _engine_down(request, error)
    if is_clash(error):
        _report(request, error, status=503)
        return problem(503, "Others were at the same rows of the database; try again.")
    if isinstance(error, psycopg.DataError):
        refused = refusal(error)
        return problem(refused.status, str(refused))
    if isinstance(error, psycopg.errors.QueryCanceled):
        _report(request, error, status=504)
        return problem(504, str(refusal(error)))
    return await unexpected(request, error)


async def _of_temporal(request: Request, error: Exception) -> Json:
    """Name what Temporal says in its own words."""
    failure = cast(RPCError, error)
    status = 503 if failure.status in TEMPORAL_AWAY else 502
    _report(request, error, status=status)
    return problem(status, f"Temporal: {failure.message}")


async def _engine_down(request: Request, error: Exception) -> Json:
    _report(request, error, status=503)
    return problem(503, "Service Unavailable")


async def unexpected(request: Request, error: Exception) -> Json:
    """Log a bug, and say nothing of it."""
    _report(request, error, status=500, trace=error)
    return problem(500, "Internal Server Error")
