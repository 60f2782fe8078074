"""Commands of the protocol that read: states, checkpoints, and the tree of agents."""

from datetime import datetime
from typing import Any, cast
from uuid import UUID

from durathread.api.auth.authorization import Caller
from durathread.api.deps import Server
from durathread.api.http.envelopes import Refused
from durathread.api.protocol.subscriptions import number
from durathread.api.services.thread_states import HistoryRead, history, read
from durathread.db import runs, threads
from durathread.db.filters import Filter
from durathread.db.pool import connection
from durathread.encode import jsonable
from durathread.errors import BadRequest
from durathread.records import JsonObject, Run, Thread
from durathread.runs.request import UUID_FORM
from durathread.streams.lifecycles import lifecycles

STATUSES = {"pending": "started", "running": "running", "success": "completed", "interrupted": "completed"}


async def state_get(server: Server, caller: Caller, thread_id: UUID, params: JsonObject) -> JsonObject:
    """Read the state of a thread, or of a subgraph of it."""
    namespace = strings(params, "namespace")
    keys = None if params.get("keys") is None else strings(params, "keys")
    thread = await _thread(server, thread_id, visible_to=await caller.may_read(thread_id))
    address = {"checkpoint_ns": "|".join(namespace)} if namespace else {}
    state: JsonObject = await read(server, thread, address, form=jsonable) if thread else {"checkpoint": None}
    if state["checkpoint"] is None:
        if namespace:
            raise Refused("no_such_namespace", f"Thread {thread_id} has no state of {'|'.join(namespace)}")
        return {"values": {}}
    values = state["values"]
    if keys is not None and isinstance(values, dict):
        values = {key: cast(JsonObject, values)[key] for key in keys if key in values}
    checkpoint = {"id": state["checkpoint"]["checkpoint_id"], "ns": state["checkpoint"]["checkpoint_ns"]}
    return {"values": values, "checkpoint": checkpoint}


async def state_list_checkpoints(server: Server, caller: Caller, thread_id: UUID, params: JsonObject) -> JsonObject:
    """List the checkpoints of a thread, the newest first."""
    namespace = strings(params, "namespace")
    before = params.get("before")
    limit = number(params, "limit")
    address = {"checkpoint_ns": "|".join(namespace)} if namespace else {}
    thread = await _thread(server, thread_id, visible_to=await caller.may_read(thread_id))
    if before is not None and not (thread and await _exists(server, thread, {**address, "checkpoint_id": before})):
        raise Refused("no_such_checkpoint", f"Thread {thread_id} has no checkpoint {before}")
    body: JsonObject = {"limit": 10 if limit is None else max(1, min(limit, 1000)), "before": before}
    if address:
        body["checkpoint"] = address
    states = await history(server, thread, HistoryRead(**body), form=jsonable) if thread else []
    return {"checkpoints": [_summary(state) for state in states]}


async def agent_get_tree(server: Server, caller: Caller, thread_id: UUID, params: JsonObject) -> JsonObject:
    """Show which graphs a run has run, each in the one that ran it, and how far they are."""
    run = await _run(server, thread_id, params.get("run_id"), visible_to=await caller.may_read(thread_id))
    status = STATUSES.get(run.status, "failed")
    root: JsonObject = {"namespace": [], "status": status, "graph_name": run.graph_id, "children": []}
    nodes: dict[tuple[str, ...], JsonObject] = {(): root}
    for namespace, data in await lifecycles(server.redis, str(thread_id), str(run.run_id)):
        if namespace in nodes:
            nodes[namespace]["status"] = data["event"]
            continue
        node: JsonObject = {"namespace": list(namespace), "status": data["event"], "children": []}
        node["graph_name"] = data.get("graph_name", "")
        nodes[namespace] = node
        around = max((outer for outer in nodes if outer == namespace[: len(outer)] and outer != namespace), key=len)
        nodes[around]["children"].append(node)
    return {"tree": root}


async def current_namespaces(server: Server, caller: Caller, thread_id: UUID, params: JsonObject) -> list[JsonObject]:
    """List the graphs of a run, and how far each is."""
    tree = (await agent_get_tree(server, caller, thread_id, {"run_id": params.get("run_id")}))["tree"]
    found, left = list[JsonObject](), [tree]
    while left:
        node = left.pop(0)
        found.append({"namespace": node["namespace"], "status": node["status"]})
        left += node["children"]
    return found


def _summary(state: JsonObject) -> JsonObject:
    metadata = state["metadata"] or {}
    created = state["created_at"]
    summary: JsonObject = {
        "id": state["checkpoint"]["checkpoint_id"],
        "timestamp": created.isoformat() if isinstance(created, datetime) else created,
        "step": metadata.get("step", 0),
        "metadata": metadata,
    }
    return summary


def strings(params: JsonObject, name: str) -> list[str]:
    """Read a list of strings that need not be there.

    Raises:
        Refused: it is none.
    """
    found = params.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(part, str) for part in cast(list[Any], found)):
        raise Refused("invalid_argument", f"Invalid {name}: must be a list of strings")
    return cast(list[str], found)


async def _exists(server: Server, thread: Thread, address: JsonObject) -> bool:
    """Whether there is a checkpoint."""
    named = isinstance(address["checkpoint_id"], str) and UUID_FORM.fullmatch(address["checkpoint_id"])
    return bool(named) and (await read(server, thread, address, form=jsonable))["created_at"] is not None


async def _thread(server: Server, thread_id: UUID, *, visible_to: Filter | None) -> Thread | None:
    """Read a thread; there is none before its first run."""
    async with connection(server.pool) as conn:
        return await threads.get(conn, thread_id, visible_to=visible_to)


async def _run(server: Server, thread_id: UUID, run_id: Any, *, visible_to: Filter | None) -> Run:
    if run_id is not None and not (isinstance(run_id, str) and UUID_FORM.fullmatch(run_id)):
        raise BadRequest("Invalid run_id: must be a UUID")
    async with connection(server.pool) as conn:
        if await threads.find(conn, thread_id, visible_to=visible_to) is None:
            found = None
        elif run_id is not None:
            found = await runs.find(conn, UUID(run_id))
        else:
            found = next(
                iter(await runs.listed(conn, thread_id, status=None, limit=1, offset=0, with_input=False)), None
            )
    if found is None or found.thread_id != thread_id:
        raise Refused("no_such_run", f"Thread {thread_id} has no run {run_id or ''}".rstrip())
    return found
