"""The activities that deliver webhooks, and what starts their workflows."""

import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from durathread.activities.positions import position_left
from durathread.activities.resources import Resources
from durathread.db import outbox
from durathread.db.outbox import Addressed, Owed
from durathread.db.pool import TROUBLES, connection
from durathread.encode import dumps
from durathread.errors import Invalid, Unavailable
from durathread.records import JsonObject, RunOptions
from durathread.runs.request import RESERVED_PREFIXES
from durathread.runs.signals import notify
from durathread.users import WEBHOOK_SECRET
from durathread.webhooks.policy import is_relative
from durathread.webhooks.posting import Answer, post
from durathread.workflows.messages import (
    DELIVER,
    DISCARD,
    UNDELIVERABLE,
    UNDELIVERED,
    Delivered,
    Delivery,
    Patience,
)

log = structlog.get_logger()

# Deliveries to one receiver that a process makes at once: one that hangs leaves room for the others.
AT_ONCE = 20
CROWDED = timedelta(seconds=2)
# Longer than this no receiver is waited for because it says so, in seconds.
LONGEST_RETRY_AFTER = 3600.0
USER_AGENT = "durathread-webhook/1"


class Deliveries:
    """Posts what the outbox says is owed."""

    def __init__(self, resources: Resources) -> None:
        """Take what the worker will have opened."""
        self._resources = resources
        self._under_way: Counter[str] = Counter()

    async def begin(self, run_id: UUID) -> None:
        """Start the delivery of what is owed for a run, if anything is. What fails here is left to the sweep."""
        try:
            async with connection(self._resources.pool) as conn:
                owed = await outbox.address(conn, run_id)
            if owed is not None:
                await self._start(owed)
        except TROUBLES as error:
            log.warning("A webhook will be delivered later", run_id=str(run_id), error=str(error))

    async def resume(self, *, age: float, limit: int) -> int:
        """Start the deliveries that nobody has started for `age` seconds; return how many were owed."""
        count, last = 0, None
        while True:
            async with connection(self._resources.pool) as conn:
                found = await outbox.left(conn, age=age, limit=limit, after=last)
            for owed in found:
                activity.heartbeat()
                if not await self._start(owed):
                    # Its workflow was ended by somebody, for good.
                    await self._discard(owed.run_id)
            count += len(found)
            if len(found) < limit:
                return count
            last = found[-1]

    @activity.defn(name=DELIVER)
    async def deliver(self, given: Delivery) -> Delivered:
        """Make one attempt to tell a receiver of the end of a run.

        Raises:
            ApplicationError: of type `Undelivered`, to be tried again, or `Undeliverable`.
        """
        async with connection(self._resources.pool) as conn:
            owed = await outbox.get(conn, UUID(given.run_id))
        if owed is None:
            return Delivered(given.run_id, 0)
        async with self._turn(httpx.URL(owed.url).host):
            answer = await self._post(owed, await self._body(owed), timeout=given.patience.timeout)
        return Delivered(given.run_id, _accepted(answer))

    @activity.defn(name=DISCARD)
    async def discard(self, run_id: str) -> None:
        """Forget what was owed for a run."""
        await self._discard(UUID(run_id))

    async def _start(self, owed: Addressed) -> bool:
        settings = self._resources.settings
        patience = Patience(
            timeout=settings.webhook_timeout,
            first_wait=settings.webhook_first_wait,
            give_up=settings.webhook_give_up,
        )
        return await notify(activity.client(), owed, task_queue=activity.info().task_queue, patience=patience)

    async def _discard(self, run_id: UUID) -> None:
        async with connection(self._resources.pool) as conn:
            await outbox.discard(conn, run_id)

    @asynccontextmanager
    async def _turn(self, host: str) -> AsyncGenerator[None]:
        if self._under_way[host] >= AT_ONCE:
            raise _undelivered(f"{AT_ONCE} deliveries to {host} are under way", again=CROWDED)
        self._under_way[host] += 1
        try:
            yield
        finally:
            self._under_way[host] -= 1
            self._under_way += Counter()

    async def _post(self, owed: Owed, body: bytes, *, timeout: float) -> Answer:  # noqa: ASYNC109
        settings, dress = self._resources.settings, self._resources.dress
        base = settings.reachable_url
        trusted = base + owed.url if is_relative(owed.url) else ""
        headers = {
            "content-type": "application/json",
            "user-agent": USER_AGENT,
            **dress.signature(
                str(owed.run_id), int(time.time()), body, secret=RunOptions.of(owed.run["kwargs"]).webhook_secret or ""
            ),
        }
        rules = self._resources.terms.webhooks
        try:
            rules.check(owed.url)
            return await post(
                trusted or owed.url,
                body,
                rules=rules,
                headers=headers,
                private_headers=dress.headers,
                timeout=timeout,
                trusted=trusted,
            )
        except Invalid as error:
            raise ApplicationError(str(error), type=UNDELIVERABLE, non_retryable=True) from error
        except (OSError, httpx.TransportError) as error:
            raise _undelivered(f"{type(error).__name__}: {error}") from error

    async def _body(self, owed: Owed) -> bytes:
        values, interrupts = owed.values, owed.interrupts
        if not owed.known and owed.checkpoint_id is not None:
            values, interrupts = await self._left(owed, owed.checkpoint_id)
        body: JsonObject = {
            **owed.run,
            "kwargs": _public(owed.run["kwargs"]),
            "webhook_sent_at": datetime.now(UTC),
            "values": values,
            "interrupts": None if owed.status == "rollback" else interrupts or {},
        }
        if owed.error is not None:
            body["error"] = owed.error
        return dumps(self._resources.dress.fields(body))

    async def _left(self, owed: Owed, checkpoint_id: str) -> tuple[Any, JsonObject]:
        """Read what a run left that did not write its own end."""
        try:
            found = await position_left(
                self._resources,
                owed.graph_id,
                owed.run_id,
                thread_id=owed.thread_id,
                checkpoint_id=checkpoint_id,
                options=RunOptions.of(owed.run["kwargs"]),
            )
        except Unavailable:
            raise
        except Exception:
            # The graph is not what it was. Better a webhook without values than none.
            log.exception("The values for a webhook cannot be read", run_id=str(owed.run_id))
            return None, {}
        interrupts = found.interrupts or {}
        async with connection(self._resources.pool) as conn:
            await outbox.fill(conn, owed.run_id, values=found.values, interrupts=interrupts)
        return found.values, interrupts


def _accepted(answer: Answer) -> int:
    """Return the status of an answer that means that the receiver has it; raise for any other."""
    if 200 <= answer.status < 300 or answer.status == 303:
        return answer.status
    problem = f"the receiver answered {answer.status}"
    if answer.status == 429 or answer.status >= 500:
        wait = answer.retry_after
        raise _undelivered(problem, again=timedelta(seconds=min(wait, LONGEST_RETRY_AFTER)) if wait else None)
    raise ApplicationError(problem, type=UNDELIVERABLE, non_retryable=True)


def _undelivered(problem: str, *, again: timedelta | None = None) -> ApplicationError:
    """Build a failure that Temporal tries again: after `again`, or as its policy says."""
    wait = again if again is not None and again > timedelta() else None
    return ApplicationError(problem, type=UNDELIVERED, next_retry_delay=wait, category=ApplicationErrorCategory.BENIGN)


def _public(kwargs: JsonObject) -> JsonObject:
    """Leave out what the server has put into a run's configuration for itself."""
    config: JsonObject = kwargs.get("config") or {}
    shown = {
        **{key: value for key, value in kwargs.items() if key != WEBHOOK_SECRET},
        "config": {**config, "configurable": _without_reserved(config.get("configurable") or {})},
        "context": _without_reserved(kwargs.get("context") or {}),
    }
    return shown


def _without_reserved(values: JsonObject) -> JsonObject:
    return {key: value for key, value in values.items() if not key.startswith(RESERVED_PREFIXES)}
