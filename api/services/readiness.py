"""Whether the engines that requests need answer now."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeAlias

import psycopg
import structlog
from redis.exceptions import RedisError
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.service import RPCError, RPCStatusCode

from durathread.api.deps import Server
from durathread.startup.preflight import connected, one_line

log = structlog.get_logger()

# How long an engine may take to answer, in seconds.
PROBE_TIMEOUT = 2.0
REFUSED = (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED)

Answers: TypeAlias = dict[str, dict[str, bool | str]]


async def examine(server: Server) -> Answers:
    """Ask all engines at once, and say of each whether it answers, and if not, why."""
    questions = {"postgres": _ask_postgres, "temporal": _ask_temporal, "valkey": _ask_valkey}
    answers = await asyncio.gather(*(_answer(name, ask, server) for name, ask in questions.items()))
    return dict(zip(questions, answers, strict=True))


async def _answer(name: str, ask: Callable[[Server], Awaitable[None]], server: Server) -> dict[str, bool | str]:
    try:
        await asyncio.wait_for(ask(server), PROBE_TIMEOUT)
    except TimeoutError:
        return {"ok": False, "error": f"no answer within {PROBE_TIMEOUT:.0f} s"}
    except (psycopg.Error, RPCError, RedisError, OSError) as error:
        # What engines say names hosts and users, and anybody may ask.
        log.warning("An engine does not answer", engine=name, error=one_line(error))
        return {"ok": False, "error": "cannot be used; the log says why"}
    return {"ok": True}


async def _ask_postgres(server: Server) -> None:
    # Not from the pool: that all its connections work does not mean that the database is away.
    async with connected(server.settings.database_url) as conn:
        await conn.execute("SELECT 1")


async def _ask_temporal(server: Server) -> None:
    request = DescribeNamespaceRequest(namespace=server.temporal.namespace)
    try:
        await server.temporal.workflow_service.describe_namespace(request, timeout=timedelta(seconds=PROBE_TIMEOUT))
    except RPCError as error:
        if error.status is RPCStatusCode.DEADLINE_EXCEEDED:
            raise TimeoutError from error
        if error.status not in REFUSED:
            raise


async def _ask_valkey(server: Server) -> None:
    await server.redis.execute_command("PING")
