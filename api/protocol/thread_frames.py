"""How a client comes to see the protocol events of a thread."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from redis.exceptions import RedisError

from durathread.api.deps import Server
from durathread.api.services.rest import resting_frames
from durathread.api.streaming.gap_notices import state_so_far
from durathread.db import runs, threads
from durathread.db.filters import Filter
from durathread.db.pool import connection
from durathread.errors import NotFound, Unavailable
from durathread.records import Thread
from durathread.streams.events import GAP, START, Event
from durathread.streams.frames import (
    Frame,
    Named,
    counting,
    frame,
    frames_subject,
    last_seq,
    over,
    requested,
    running,
    seq_of,
)


async def newest(server: Server, thread_id: UUID) -> int:
    """Return the number of a thread's newest event.

    Raises:
        Unavailable: Valkey is away.
    """
    try:
        return await last_seq(server.redis, thread_id)
    except (RedisError, OSError) as error:
        raise Unavailable("The event stream is unavailable.") from error


async def prepare(server: Server, thread_id: UUID, *, since: int, visible_to: Filter | None) -> int:
    """Make sure that a thread has the events it can have, and return the number after which a client goes on.

    A client that has seen more than there is remembers a stream that was lost: it begins anew. There need not be a thread
    yet, unless it would have to pass a filter.

    Raises:
        NotFound: the filter does not let the thread through.
        Unavailable: Valkey is away.
    """
    async with connection(server.pool) as conn:
        thread = await threads.get(conn, thread_id, visible_to=visible_to)
    if thread is None and visible_to is not None:
        raise NotFound(f"Thread with ID {thread_id} not found")
    last = await newest(server, thread_id)
    await _write_history(server, thread)
    return since if since <= last else 0


async def applied(server: Server, thread_id: UUID) -> int:
    """Return the number up to which events cannot be the doing of a command that comes now.

    Raises:
        Unavailable: Valkey is away.
    """
    if last := await newest(server, thread_id):
        return last
    async with connection(server.pool) as conn:
        thread = await threads.get(conn, thread_id)
    await _write_history(server, thread)
    return await newest(server, thread_id)


def follow(server: Server, thread_id: UUID, *, after: int) -> AsyncIterator[Event]:
    """Follow a thread's events after a number, until the thread is deleted."""

    born: str | None = None

    async def lost(event_id: str) -> bool:
        nonlocal born
        before = born
        seq, born = await counting(server.redis, thread_id)
        return seq < int(event_id.partition("-")[0]) or before not in (None, born)

    marks = server.hub.marks(frames_subject(thread_id), after=f"{after}-0", lost=lost)
    return resting_frames(server.hub, _bridged(server, thread_id, marks))


async def between(server: Server, thread_id: UUID, *, after: int, upto: int) -> AsyncIterator[Event]:
    """Read a thread's events after a number, up to another."""
    if after < upto:
        found = server.hub.between(frames_subject(thread_id), after=f"{after}-0", until=f"{upto}-0")
        async for entry in _bridged(server, thread_id, found):
            yield entry


async def kept(server: Server, thread_id: UUID, *, upto: int) -> AsyncIterator[Event]:
    """Read what there is of a thread's events up to a number."""
    async for entry in server.hub.between(frames_subject(thread_id), after=START, until=f"{upto}-0"):
        if entry.name != GAP:
            yield entry


async def _bridged(server: Server, thread_id: UUID, entries: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """Show, where events are missing, what a thread's run has come to. Their number is that of the last that is missing."""
    async for entry in entries:
        if entry.name != GAP:
            yield entry
            continue
        for said in await _so_far(server, thread_id, gap=seq_of(entry)):
            yield Event(f"{seq_of(entry)}-1", said.name, said.data)


async def _so_far(server: Server, thread_id: UUID, *, gap: int) -> list[Frame]:
    async with connection(server.pool) as conn:
        thread = await threads.get(conn, thread_id)
        heads = await runs.heads(conn, thread_id)
    if thread is None:
        return []
    working = next((run for run in heads if run.status == "running"), None)
    if working is None:
        return _left(thread, gap=gap)
    run = Named.of(working)
    values = await state_so_far(server, run.run_id)
    return [running(run, working.graph_id), _values(run, {} if values is None else values, gap=gap)]


async def _write_history(server: Server, thread: Thread | None) -> None:
    if thread is not None and thread.status != "busy" and (frames := _history(server, thread)):
        # Written only if there is nothing: see the script.
        server.publisher.publish_frames(frames)
        await server.publisher.flush()


def _history(server: Server, thread: Thread) -> list[Frame]:
    """Say in a few events what the last run has left, if that is recent or waits for an answer."""
    recent = datetime.now(UTC) - thread.updated_at < timedelta(seconds=server.settings.stream_ttl)
    return _left(thread) if recent or any((thread.interrupts or {}).values()) else []


def _left(thread: Thread, *, gap: int | None = None) -> list[Frame]:
    """Say what the last run has left; after a `gap`, which is named by its last number."""
    interrupts = [interrupt for found in (thread.interrupts or {}).values() for interrupt in found]
    if thread.ended_run_id is None:
        return []
    run = Named(str(thread.thread_id), str(thread.ended_run_id))
    graph = str(thread.metadata.get("graph_id", ""))
    failed = thread.resting == "error"
    error = (thread.error or {}).get("message") if failed else None
    event = "failed" if failed else "interrupted" if interrupts else "completed"
    return [
        replace(running(run, graph), kind="history"),
        _values(run, thread.values or {}, gap=gap),
        *(requested(run, interrupt, kind="history") for interrupt in interrupts),
        over(run, event, graph_name=graph, kind="history", error=error),
    ]


def _values(run: Named, values: Any, *, gap: int | None) -> Frame:
    event_id = f"{run.run_id}-values" if gap is None else f"{run.run_id}-gap-{gap}"
    return frame(run, "history", event_id, method="values", data=values, gap=gap is not None)
