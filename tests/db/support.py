"""Rows and checkpoints, made as the API and a worker make them."""

from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID, uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointMetadata, empty_checkpoint

from durathread.db import admission, runs, threads
from durathread.db.pool import Pool, connection, transaction
from durathread.db.saver import Saver
from durathread.records import Assistant, JsonObject, NewRun, Run, RunOptions, Strategy, Thread, ThreadStatus

NOW = datetime.now(UTC)


def assistant(**given: Any) -> Assistant:
    """Build an assistant; runs do not need its row."""
    fields: dict[str, Any] = {
        "assistant_id": uuid4(),
        "graph_id": "agent",
        "name": "agent",
        "description": None,
        "config": {},
        "context": {},
        "metadata": {},
        "version": 1,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Assistant(**{**fields, **given})


def new_run(thread_id: UUID, strategy: Strategy = "enqueue", **given: Any) -> NewRun:
    """Build a run that asks to be admitted, with its thread if there is none."""
    fields: dict[str, Any] = {
        "run_id": uuid4(),
        "thread_id": thread_id,
        "assistant": assistant(),
        "strategy": strategy,
        "metadata": {},
        "options": RunOptions.of(given.pop("kwargs", {})),
        "create_thread": True,
    }
    return NewRun(**{**fields, **given})


async def admit(pool: Pool, new: NewRun) -> admission.Admission:
    """Admit a run in a transaction of its own."""
    async with transaction(pool) as conn:
        return await admission.admit(conn, new)


async def claimed(pool: Pool, thread_id: UUID, *, token: int = 1001) -> Run:
    """Admit a run and let an attempt at its first step claim it."""
    admitted = await admit(pool, new_run(thread_id))
    return await claim(pool, admitted.run.run_id, token=token)


async def claim(pool: Pool, run_id: UUID, *, token: int = 1001, step: int = 0) -> Run:
    """Claim a run that can be claimed."""
    async with connection(pool) as conn:
        run = await runs.claim(conn, run_id, token=token, step=step)
    assert run is not None
    return run


async def cancel(pool: Pool, run: Run, action: admission.CancelAction = "interrupt") -> list[Run]:
    """Cancel a run in a transaction of its own."""
    async with transaction(pool) as conn:
        return await admission.cancel(conn, run.thread_id, run_ids=[run.run_id], action=action, reason="test")


async def settle(pool: Pool, run: Run, *, resting: ThreadStatus | None = None, values: Any = None) -> None:
    """Settle what a run left that did not write its own end; one that never worked has left nothing."""
    async with transaction(pool) as conn:
        await runs.settle_thread(
            conn, run.run_id, resting=resting, values=values, interrupts=None if values is None else {}
        )


async def finish(pool: Pool, run: Run, *, values: Any = None, interrupts: JsonObject | None = None) -> bool:
    """End a run as the attempt that owns it does."""
    async with connection(pool) as conn:
        return await runs.end_owned(
            conn,
            run.run_id,
            token=run.attempt,
            status="success",
            resting="interrupted" if interrupts else "idle",
            error=None,
            values=values,
            interrupts=interrupts or {},
            checkpoint_id=None,
        )


async def run_of(pool: Pool, run_id: UUID) -> Run | None:
    """Read a run."""
    async with connection(pool) as conn:
        return await runs.get(conn, run_id)


async def thread_of(pool: Pool, thread_id: UUID) -> Thread:
    """Read a thread."""
    async with connection(pool) as conn:
        thread = await threads.get(conn, thread_id, hidden=True)
    assert thread is not None
    return thread


def saver_of(pool: Pool, run: Run) -> Saver:
    """Build the saver of a run's attempt."""
    return Saver(pool, owner=(str(run.run_id), run.attempt))


def address(thread_id: UUID, checkpoint_id: str | None = None) -> RunnableConfig:
    """Name the latest checkpoint of a thread, or one of them."""
    named = {"checkpoint_id": checkpoint_id} if checkpoint_id else {}
    return {"configurable": {"thread_id": str(thread_id), "checkpoint_ns": "", **named}}


async def put(
    saver: Saver,
    thread_id: UUID,
    *,
    run_id: UUID | None = None,
    parent: str | None = None,
    log: list[str] | None = None,
) -> str:
    """Write a checkpoint whose `log` is new, as LangGraph does for a run, and return its id."""
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = {"log": log or []}
    checkpoint["channel_versions"] = {"log": checkpoint["id"]}
    metadata = cast(CheckpointMetadata, {"source": "loop", "step": 0, "parents": {}, "run_id": str(run_id)})
    await saver.aput(address(thread_id, parent), checkpoint, metadata, {"log": checkpoint["id"]})
    return checkpoint["id"]


async def pending(pool: Pool, thread_id: UUID) -> list[tuple[str, str, Any]]:
    """List the pending writes on the latest checkpoint of a thread."""
    found = await Saver(pool).aget_tuple(address(thread_id))
    return sorted(found.pending_writes or []) if found else []
