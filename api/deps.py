"""What routes depend on, as annotated aliases."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar, cast
from uuid import UUID

import orjson
from fastapi import Depends, Request
from langgraph.store.base import BaseStore
from redis.asyncio import Redis
from starlette.requests import HTTPConnection
from temporalio.client import Client
from temporalio.service import RPCError

from durathread.api.auth.handlers import Authority
from durathread.api.http.brief_answers import Brief
from durathread.config.settings import Settings
from durathread.db import runs, threads
from durathread.db.filters import Filter
from durathread.db.guarded_store import GuardedItems
from durathread.db.pool import Pool, connection
from durathread.errors import Error, Invalid, NotFound, TimedOut, Unavailable
from durathread.graphs.loops import GraphLoops
from durathread.graphs.registry import Graphs
from durathread.process.lifecycle import Owner
from durathread.records import IN_FLIGHT, Run, Thread
from durathread.runs.policies import Terms
from durathread.runs.request import UUID_FORM, limits_of
from durathread.streams.events import FRAMES, THREAD, settled
from durathread.streams.hub import Hub
from durathread.streams.presence import Watchers
from durathread.streams.publisher import Publisher
from durathread.workflows.messages import Limits

T = TypeVar("T")

SETTLED = settled("")
# A Temporal that answered this recently is taken to be there, in seconds.
FRESH = 1.0
# Runs that a process sends to Temporal at once. Its patience with each is counted from then: of 500 that came together, a busy
# machine would else have given up the last.
SENT_AT_ONCE = 32


@dataclass
class _Turn:
    """Those who edit one thread."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


@dataclass
class Server:
    """What the API process holds open."""

    settings: Settings
    graphs: Graphs
    loops: GraphLoops
    first_nodes: dict[str, list[str]]
    pool: Pool
    store: BaseStore
    temporal: Client
    redis: "Redis"
    hub: Hub
    publisher: Publisher
    watchers: Watchers
    terms: Terms
    owner: Owner
    temporal_seen: float = 0
    sending: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SENT_AT_ONCE))
    authority: Authority | None = None
    guarded: GuardedItems | None = None
    briefs: dict[str, Brief[Any]] = field(default_factory=dict[str, Brief[Any]])
    edited: dict[UUID, "_Turn"] = field(default_factory=dict[UUID, "_Turn"])
    # The states of runs that are being read for those who have lost events.
    readings: dict[str, asyncio.Task[Any]] = field(default_factory=dict[str, asyncio.Task[Any]])

    @property
    def limits(self) -> Limits:
        """The bounds that runs are started with."""
        return limits_of(self.settings)

    async def briefly(self, name: str, ask: Callable[[], Awaitable[T]]) -> T:
        """Return an answer that is worked out a few times a second at most, however many ask."""
        return await self.briefs.setdefault(name, Brief(ask)).get()

    async def apart(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine that calls users' code where such code runs, and wait for it.

        Raises:
            TimedOut: it takes longer than `graph_timeout`.
        """
        work = self.loops.submit(make)
        outcome = asyncio.wrap_future(work.outcome)
        # If nobody waits any more, its exception must still be looked at: asyncio would complain.
        outcome.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        try:
            await asyncio.wait([outcome], timeout=self.settings.graph_timeout)
        finally:
            if not outcome.done():
                work.cancel()
        if not outcome.done():
            raise TimedOut(f"The graph's own code took longer than {self.settings.graph_timeout:g} seconds.")
        if outcome.cancelled():
            raise Error("The graph's own code was cancelled.")
        return outcome.result()

    @asynccontextmanager
    async def editing(self, thread_id: UUID) -> AsyncGenerator[None]:
        """Let those who edit a thread do so one after the other: each would else undo what the others have thought out.

        Raises:
            TimedOut: those before take longer than `graph_timeout`.
        """
        turn = self.edited.setdefault(thread_id, _Turn())
        turn.waiting += 1
        try:
            try:
                await asyncio.wait_for(turn.lock.acquire(), self.settings.graph_timeout)
            except TimeoutError:
                raise TimedOut("Others edit the thread, and take too long.") from None
            try:
                yield
            finally:
                turn.lock.release()
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                self.edited.pop(thread_id, None)

    def spawn(self, work: Coroutine[Any, Any, Any], *, name: str) -> None:
        """Do something that outlives the request."""
        self.owner.spawn(work, name=name)

    async def require_temporal(self) -> None:
        """Refuse work that could not be started.

        Raises:
            Unavailable: Temporal does not answer.
        """
        now = asyncio.get_running_loop().time()
        if now - self.temporal_seen < FRESH:
            return
        try:
            async with asyncio.timeout(2):
                await self.temporal.service_client.check_health(retry=False)
        except (RPCError, TimeoutError) as error:
            raise Unavailable("Temporal is unavailable: nothing can be started now.") from error
        self.temporal_seen = now


async def get_server(connection: HTTPConnection) -> Server:
    """Return what the process holds open."""
    return cast(Server, connection.scope["app"].state.server)


# Async, all of these: FastAPI sends a plain function through a thread, a millisecond each.
ServerDep = Annotated[Server, Depends(get_server)]


def parse_uuid(value: str, what: str) -> UUID:
    """Read an id.

    Raises:
        Invalid: it is not a UUID.
    """
    if not UUID_FORM.fullmatch(value):
        raise Invalid(f"Invalid {what} ID: must be a UUID")
    return UUID(value)


async def thread_id_of(thread_id: str) -> UUID:
    """Read the thread id of a path."""
    return parse_uuid(thread_id, "thread")


async def run_id_of(run_id: str) -> UUID:
    """Read the run id of a path."""
    return parse_uuid(run_id, "run")


async def assistant_id_of(assistant_id: str) -> UUID:
    """Read the assistant id of a path."""
    return parse_uuid(assistant_id, "assistant")


async def cron_id_of(cron_id: str) -> UUID:
    """Read the cron id of a path."""
    return parse_uuid(cron_id, "cron")


ThreadId = Annotated[UUID, Depends(thread_id_of)]
RunId = Annotated[UUID, Depends(run_id_of)]
AssistantId = Annotated[UUID, Depends(assistant_id_of)]
CronId = Annotated[UUID, Depends(cron_id_of)]


def listed(request: Request, *names: str) -> list[str]:
    """Read a list from a query: repeated keys, a JSON array or comma separated names, under any of the names."""
    found: list[str] = []
    for name in names:
        for value in request.query_params.getlist(name):
            if value.startswith(("[", '"')):
                try:
                    parsed = orjson.loads(value)
                except orjson.JSONDecodeError:
                    raise Invalid(f"{name}: not a list") from None
                found += [str(item) for item in parsed] if isinstance(parsed, list) else [str(parsed)]
            else:
                found += [part.strip() for part in value.split(",") if part.strip()]
    return found


async def existing_thread(server: Server, thread_id: UUID, *, visible_to: Filter | None) -> Thread:
    """Read a thread that the filter lets through, but for its values.

    Raises:
        NotFound: there is none of that id.
    """
    async with connection(server.pool) as conn:
        return _existing(await threads.find(conn, thread_id, visible_to=visible_to), thread_id)


async def whole_thread(server: Server, thread_id: UUID, *, visible_to: Filter | None) -> Thread:
    """Read a thread that the filter lets through.

    Raises:
        NotFound: there is none of that id.
    """
    async with connection(server.pool) as conn:
        return _existing(await threads.get(conn, thread_id, visible_to=visible_to), thread_id)


def _existing(found: Thread | None, thread_id: UUID) -> Thread:
    if found is None:
        raise NotFound(f"Thread with ID {thread_id} not found")
    return found


async def existing_run(
    server: Server,
    thread_id: UUID,
    run_id: UUID,
    *,
    visible_to: Filter | None,
    hidden: bool = False,
    with_input: bool = False,
) -> Run:
    """Read a run of a thread that the filter lets through.

    Raises:
        NotFound: the thread has none of that id, or has ended as the thread of a stateless run, unless `hidden`.
    """
    async with connection(server.pool) as conn:
        found = await (runs.get if with_input else runs.find)(conn, run_id, visible_to=visible_to)
        if found is not None and not hidden and found.options.temporary and not found.in_flight:
            found = None
    if found is None or found.thread_id != thread_id:
        raise NotFound(f"Run with ID {run_id} not found")
    return found


async def final_statuses(pool: Pool, subjects: Collection[str]) -> dict[str, str | None]:
    """Say how runs have ended: `deleted` if a row is gone, None while in flight; or, for `settled:{id}`, that they are.

    A run is settled when its thread shows what it has left; one that never worked has left nothing. A thread's subject
    ends only by deletion. Its protocol events may be watched before there is a thread, so the rows say nothing of them.
    """
    subjects = [subject for subject in subjects if not subject.startswith(FRAMES)]
    watched = {subject: UUID(subject.removeprefix(THREAD)) for subject in subjects if subject.startswith(THREAD)}
    ids = {subject: UUID(subject.removeprefix(SETTLED)) for subject in subjects if subject not in watched}
    async with connection(pool) as conn:
        found = {run.run_id: run for run in await runs.standings(conn, list(ids.values()))}
        unsettled = (
            {run.thread_id for run in found.values()} if any(s.startswith(SETTLED) for s in ids) else set[UUID]()
        )
        asked = unsettled | set(watched.values())
        shown = await threads.turns(conn, asked) if asked else {}
    statuses: dict[str, str | None] = {
        subject: None if thread_id in shown else "deleted" for subject, thread_id in watched.items()
    }
    for subject, run_id in ids.items():
        run = found.get(run_id)
        statuses[subject] = "deleted" if run is None else None if run.status in IN_FLIGHT else run.status
        if run and subject.startswith(SETTLED) and run.started_at and run.thread_id in shown:
            turn = shown[run.thread_id]
            if turn is None or turn < run.started_at:
                statuses[subject] = None
    return statuses
