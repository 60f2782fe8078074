"""What `wait` and `join` answer."""

from typing import Any, cast
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from redis.exceptions import RedisError

from durathread.api.deps import Server
from durathread.api.services.rest import at_rest
from durathread.db import runs, threads
from durathread.db.left_writes import left_writes
from durathread.db.pool import connection
from durathread.db.saver import Saver
from durathread.encode import jsonable, loads
from durathread.graphs.config_keys import reading_config
from durathread.graphs.read_state import standing, standing_left
from durathread.records import JsonObject, Run
from durathread.steps.superstep import pending_interrupts

JsonValue = Any


async def outcome(server: Server, thread_id: UUID, run_id: UUID) -> JsonValue:
    """Wait for a run's end, and return its output: values, `__interrupt__` or `__error__`."""
    if await server.hub.ended(str(run_id)) == "interrupted":
        await at_rest(server.hub, str(run_id))
    async with connection(server.pool) as conn:
        run = await runs.find(conn, run_id)
        thread = await threads.get(conn, thread_id, hidden=True)
    if run is None or thread is None:
        return await _seen(server, run_id)
    if run.status in ("error", "timeout"):
        return {"__error__": run.error}
    if thread.ended_run_id == run.run_id:
        return _with_interrupts({} if thread.values is None else thread.values, thread.interrupts or {})
    return await at_its_end(server, run)


async def observed(server: Server, thread_id: UUID, run_id: UUID) -> JsonValue:
    """Wait for a run's end, and return its output as its stream shows it: questions say also that they have no schema."""
    output = await outcome(server, thread_id, run_id)
    if not isinstance(output, dict) or "__interrupt__" not in output:
        return output
    shown = cast(JsonObject, output)
    return {**shown, "__interrupt__": [{"response_schema": None, **asked} for asked in shown["__interrupt__"]]}


async def _seen(server: Server, run_id: UUID) -> JsonValue:
    """Return the last values that a run which was rolled back had shown."""
    try:
        event = await server.hub.last(str(run_id), "values")
    except (RedisError, OSError):
        event = None
    return loads(event.data) if event else {}


async def at_its_end(server: Server, run: Run) -> JsonValue:
    """Read the state that a run left, although its thread may have gone on; the thread's own if it left none."""
    async with connection(server.pool) as conn:
        checkpoint_id = run.checkpoint_id or await runs.last_checkpoint(conn, run)
        if checkpoint_id:
            writes = await left_writes(conn, run.run_id, thread_id=run.thread_id, checkpoint_id=checkpoint_id)
        else:
            writes = []
    here: RunnableConfig = {"configurable": {"thread_id": str(run.thread_id)}}
    config, saver = reading_config(run.graph_id, run.thread_id, run.options), Saver(server.pool)

    async def look() -> JsonValue:
        async with server.graphs.open(
            run.graph_id, config=config, checkpointer=saver, store=server.store, why="threads.read"
        ) as graph:
            if checkpoint_id:
                state = await standing_left(graph, here, checkpoint_id, writes=writes)
            else:
                state = await standing(graph, here)
        return jsonable(_with_interrupts(state.values, pending_interrupts(state)))

    return await server.apart(look)


def _with_interrupts(values: JsonValue, interrupts: JsonObject) -> JsonValue:
    if not interrupts:
        return values
    flat = [item for items in interrupts.values() for item in items]
    return {**(values if isinstance(values, dict) else {}), "__interrupt__": flat}
