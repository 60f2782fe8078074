"""Ends runs on their thread's stream when nobody else has: who ended them died, or they were first watched after their end."""

import contextlib
from collections.abc import Iterable
from uuid import UUID

from redis.exceptions import RedisError

from durathread.activities.resources import Resources
from durathread.db import runs, threads
from durathread.db.pool import connection
from durathread.records import JsonObject
from durathread.streams.closing_frames import closing, halted, left_open
from durathread.streams.frames import Frame, Named, frames_subject, over, requested


async def close_before(resources: Resources, run: Named) -> None:
    """End what a thread's stream shows of runs before one that is about to begin: what they left open is nobody's."""
    if resources.publisher.away:
        return
    with contextlib.suppress(RedisError, OSError):
        others = await left_open(resources.redis, run.thread_id)
        await close_ended(resources, run.thread_id, [run_id for run_id in others if run_id != run.run_id])


async def close_ended(resources: Resources, thread_id: str, run_ids: Iterable[str]) -> None:
    """End those of the runs on their thread's stream that have ended and are not over there."""
    if resources.publisher.away:
        return
    with contextlib.suppress(RedisError, OSError):
        for run_id in run_ids:
            resources.publisher.publish_frames(await _ending(resources, Named(thread_id, run_id)))
        await resources.publisher.flush(frames_subject(thread_id))


async def _ending(resources: Resources, name: Named) -> list[Frame]:
    async with connection(resources.pool) as conn:
        run = await runs.find(conn, UUID(name.run_id))
        thread = await threads.get(conn, UUID(name.thread_id), hidden=True)
    if (run is not None and run.in_flight) or (left := await halted(resources.redis, name)) is None:
        return []
    status = run.status if run else "rollback"
    error = ((run.error if run else None) or {}).get("message")
    closed = closing(name, left, status, before=thread.values if thread else None, error=error)
    asked: list[JsonObject] = []
    if thread is not None and status == "success" and thread.ended_run_id == UUID(name.run_id):
        asked = [interrupt for found in (thread.interrupts or {}).values() for interrupt in found]
    event = "failed" if status in ("error", "timeout") else "interrupted" if asked else "completed"
    said = error if event == "failed" else None
    cut = status if status in ("interrupted", "rollback") else None
    questions = (requested(name, interrupt, kind="close") for interrupt in asked)
    return [*closed, *questions, over(name, event, graph_name=left.graph_name, error=said, status=cut)]
