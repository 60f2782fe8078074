"""The states of threads: `client.threads.get_state`, `update_state` and `get_history`."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import Query, Request
from pydantic import Field
from starlette.responses import Response

from durathread.api.auth.authorization import Caller, CallerDep
from durathread.api.deps import Server, ServerDep, ThreadId, existing_thread, listed
from durathread.api.http.bodies import Routes
from durathread.api.http.error_answers import problems
from durathread.api.http.json_answers import Encoded, Json
from durathread.api.openapi.described import SELECT, parameters
from durathread.api.openapi.schemas import StateUpdated, ThreadStateModel, selection_of
from durathread.api.services.allowances import room_of
from durathread.api.services.searching import MOST, integer
from durathread.api.services.snapshots import address_json
from durathread.api.services.state_updates import UpdateBody, edit
from durathread.api.services.thread_states import (
    AnyCheckpoint,
    HistoryRead,
    Select,
    address_of,
    history,
    read,
    selectable,
)
from durathread.encode import dumps
from durathread.errors import Invalid
from durathread.records import JsonObject
from durathread.runs.request import Body, CheckpointBody, UuidText
from durathread.streams.thread_markers import mark_state

router = Routes(prefix="/threads/{thread_id}", tags=["Threads"])


TRUE = ("true", "yes", "1")


class StateRead(Body):
    """Which state to read."""

    checkpoint: AnyCheckpoint = Field(default_factory=AnyCheckpoint)
    subgraphs: bool = False
    select: Select | None = Field(default=None, description="Fields, or `values.<key>`.")


class StateUpdateBody(UpdateBody):
    """What to write, and from which checkpoint on."""

    checkpoint: CheckpointBody | None = None
    checkpoint_id: UuidText | None = None


@router.get(
    "/state",
    response_model=selection_of(ThreadStateModel),
    responses=problems(400, 404, 504),
    openapi_extra=parameters(SELECT),
)
async def get_latest(
    thread_id: ThreadId, request: Request, server: ServerDep, caller: CallerDep, subgraphs: str = "false"
) -> Response:
    """Get the state of a thread at its latest checkpoint."""
    select = _select_of(request)
    return await _read(server, caller, thread_id, {}, subgraphs=subgraphs.lower() in TRUE, select=select)


@router.get(
    "/state/{checkpoint_id}",
    response_model=selection_of(ThreadStateModel),
    responses=problems(400, 404, 504),
    openapi_extra=parameters(SELECT),
)
async def get_at(
    thread_id: ThreadId,
    checkpoint_id: str,
    request: Request,
    server: ServerDep,
    caller: CallerDep,
    subgraphs: str = "false",
) -> Response:
    """Get the state of a thread at a checkpoint; an empty one if there is no such checkpoint."""
    select = _select_of(request)
    address = {"checkpoint_id": checkpoint_id}
    return await _read(server, caller, thread_id, address, subgraphs=subgraphs.lower() in TRUE, select=select)


@router.post("/state/checkpoint", response_model=selection_of(ThreadStateModel), responses=problems(400, 404, 504))
async def post_checkpoint(thread_id: ThreadId, body: StateRead, server: ServerDep, caller: CallerDep) -> Response:
    """Get the state of a thread, or of a subgraph of it, at a checkpoint or the latest."""
    address = address_of(body.checkpoint)
    return await _read(server, caller, thread_id, address, subgraphs=body.subgraphs, select=body.select, echo=True)


@router.post("/state", response_model=StateUpdated, responses=problems(400, 404, 409, 429, 504))
async def update(thread_id: ThreadId, body: StateUpdateBody, server: ServerDep, caller: CallerDep) -> Response:
    """Write a checkpoint, as if a node had returned values. Refused while a run is in flight."""
    address = address_of(body.checkpoint) if body.checkpoint else {}
    if body.checkpoint_id:
        address = {**address, "checkpoint_id": body.checkpoint_id}
    visible_to = await caller.ask("threads", "update", {"thread_id": thread_id})
    room = await room_of(server, caller, creates=False)
    written = await edit(server, thread_id, body, address=address, visible_to=visible_to, room=room)
    checkpoint = address_json({"configurable": written})
    mark_state(server.publisher, thread_id, checkpoint["checkpoint_id"])
    return Json({"checkpoint": checkpoint, "configurable": checkpoint, "checkpoint_id": checkpoint["checkpoint_id"]})


@router.post("/history", response_model=list[selection_of(ThreadStateModel)], responses=problems(400, 404, 504))
async def post_history(thread_id: ThreadId, body: HistoryRead, server: ServerDep, caller: CallerDep) -> Response:
    """List the states of a thread, newest first."""
    return await _history(server, caller, thread_id, body)


@router.get("/history", response_model=list[selection_of(ThreadStateModel)], responses=problems(400, 404, 504))
async def get_history(
    thread_id: ThreadId,
    server: ServerDep,
    caller: CallerDep,
    limit: Annotated[str, Query(description="1 to 1000.")] = "10",
    before: Annotated[str | None, Query(description="The id of a checkpoint.")] = None,
) -> Response:
    """List the states of a thread, newest first."""
    body = HistoryRead(limit=integer(limit, "limit", least=1, most=MOST), before=before or None)
    return await _history(server, caller, thread_id, body)


async def _read(
    server: Server,
    caller: Caller,
    thread_id: UUID,
    address: JsonObject,
    *,
    subgraphs: bool,
    select: Sequence[str] | None,
    echo: bool = False,
) -> Response:
    thread = await existing_thread(server, thread_id, visible_to=await caller.may_read(thread_id))

    def rendered(state: JsonObject) -> bytes:
        return dumps(_picked(state, select))

    return Encoded(await read(server, thread, address, subgraphs=subgraphs, echo=echo, form=rendered))


async def _history(server: Server, caller: Caller, thread_id: UUID, body: HistoryRead) -> Response:
    thread = await existing_thread(server, thread_id, visible_to=await caller.may_read(thread_id))

    def rendered(states: list[JsonObject]) -> bytes:
        return dumps([_picked(state, body.select) for state in states])

    return Encoded(await history(server, thread, body, form=rendered))


def _select_of(request: Request) -> list[str]:
    try:
        return selectable(listed(request, "select"))
    except ValueError as error:
        raise Invalid(f"select: {error}") from error


def _picked(state: JsonObject, select: Sequence[str] | None) -> JsonObject:
    """Keep the fields that a client asked for, and of the values perhaps only some keys."""
    if not select:
        return state
    picked: JsonObject = {name: state[name] for name in select if name in state}
    keys = [name.removeprefix("values.") for name in select if name.startswith("values.")]
    if keys and "values" not in picked:
        values = state["values"] if isinstance(state["values"], dict) else {}
        picked["values"] = {key: values[key] for key in keys if key in values}
    return picked
