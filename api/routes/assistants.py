"""Assistants: `client.assistants`."""

import asyncio
from dataclasses import replace
from typing import Any, Literal, cast
from uuid import UUID, uuid4

from langchain_core.runnables import RunnableConfig
from pydantic import Field
from starlette.responses import Response

from durathread.api.auth.authorization import Caller, CallerDep, require_own, stamped
from durathread.api.deps import AssistantId, Server, ServerDep
from durathread.api.http.error_answers import problems
from durathread.api.http.json_answers import Encoded, Json, assistant_json, selected
from durathread.api.openapi.described import IDEMPOTENCY_KEY, parameters
from durathread.api.openapi.schemas import (
    AssistantModel,
    AssistantVersionModel,
    DrawnGraph,
    GraphSchemaModel,
    SubgraphSchemas,
    selection_of,
)
from durathread.api.services.allowances import room_of
from durathread.api.services.graph_schemas import schemas_of
from durathread.api.services.launch import cancel
from durathread.api.services.repeated_requests import KeyedRoutes
from durathread.api.services.request_headers import forwarded
from durathread.api.services.searching import Page, SortOrder, Text, page
from durathread.api.services.thread_deletion import remove
from durathread.db import assistants, crons, idempotency, stored
from durathread.db.filters import Filter
from durathread.db.pool import connection, transaction
from durathread.encode import dumps
from durathread.errors import BadRequest, Conflict, Gone, Invalid, NotFound
from durathread.graphs.registry import system_assistant_id
from durathread.records import Assistant, JsonObject
from durathread.runs.deletion import unschedule
from durathread.runs.request import (
    Body,
    ConfigBody,
    UuidText,
    assistant_id_of,
    find_assistant,
    of_server,
    strip_reserved,
    without_server,
)

router = KeyedRoutes(prefix="/assistants", tags=["Assistants"])

TRUE = ("true", "yes", "1")
# How many threads are deleted at once with their assistant.
AT_ONCE = 8

Shown = Literal[
    "assistant_id",
    "graph_id",
    "name",
    "description",
    "config",
    "context",
    "created_at",
    "updated_at",
    "metadata",
    "version",
]


class AssistantCreate(Body):
    """A new assistant."""

    graph_id: str
    assistant_id: UuidText | None = None
    config: ConfigBody = Field(default_factory=ConfigBody)
    context: dict[str, Any] = Field(default_factory=dict[str, Any])
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])
    if_exists: Literal["raise", "do_nothing"] = "raise"
    name: Text | None = None
    description: Text | None = None


class AssistantPatch(Body):
    """What to change: `metadata` is merged, all else replaced."""

    graph_id: str | None = None
    config: ConfigBody | None = None
    context: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    name: Text | None = None
    description: Text | None = None


class AssistantFilter(Body):
    """Which assistants to find: by metadata that they contain, by graph, by part of their name."""

    metadata: dict[str, Any] | None = None
    graph_id: str | None = None
    name: Text | None = None


class AssistantSearch(AssistantFilter, Page):
    """Which assistants to find, and how to show them."""

    sort_by: assistants.SortBy = "created_at"
    sort_order: SortOrder = "desc"
    select: list[Shown] | None = None


class VersionSearch(Page):
    """Which versions to find."""

    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])


class VersionChoice(Body):
    """The version to go back to."""

    version: int = Field(ge=0, lt=2**31)


@router.post(
    "", response_model=AssistantModel, responses=problems(400, 404, 409, 429), openapi_extra=parameters(IDEMPOTENCY_KEY)
)
async def create(body: AssistantCreate, server: ServerDep, caller: CallerDep) -> Response:
    """Create an assistant."""
    minted = caller.key.named("assistant") if caller.key else uuid4()
    assistant_id = UUID(body.assistant_id) if body.assistant_id else minted
    value: JsonObject = {**body.model_dump(exclude_none=True), "assistant_id": assistant_id}
    visible_to = await caller.ask("assistants", "create", value)
    body = AssistantCreate.model_validate({**value, "assistant_id": None})
    _require_graph(server, body.graph_id)
    config, context = _mirrored(body.config, body.context)
    room = await room_of(server, caller, creates=False)
    async with transaction(server.pool) as conn:
        if await idempotency.begin(conn, caller.key):
            if (known := await assistants.get(conn, assistant_id, visible_to=visible_to)) is None:
                raise Gone("The assistant that this Idempotency-Key has made is gone.")
            return Json(assistant_json(known))
        created = await assistants.insert(
            conn,
            assistant_id,
            graph_id=body.graph_id,
            name=body.name or "Untitled",
            description=body.description,
            config=config,
            context=context,
            metadata=stamped(body.metadata, visible_to),
            holder=room.holder,
        )
        if created is not None:
            await stored.require(conn, room)
        if created is None and body.if_exists == "do_nothing":
            created = await assistants.get(conn, assistant_id, visible_to=visible_to)
        if created is None:
            await idempotency.refrain(conn, caller.key)
    if created is None:
        raise Conflict(f"Assistant with ID {assistant_id} already exists")
    return Json(assistant_json(created))


@router.post("/search", response_model=list[selection_of(AssistantModel)], responses=problems(404))
async def search(body: AssistantSearch, server: ServerDep, caller: CallerDep) -> Response:
    """Find assistants."""
    filters = await _allowed(server, caller, body, limit=body.limit, offset=body.offset)
    async with connection(server.pool) as conn:
        total = await assistants.count(conn, filters, at_most=body.reach)
        found = await assistants.search(
            conn,
            filters,
            limit=body.limit,
            offset=body.offset,
            sort_by=body.sort_by,
            descending=body.sort_order == "desc",
        )
    return page([selected(assistant_json(item), body.select) for item in found], asked=body, total=total)


@router.post("/count", response_model=int, responses=problems(404))
async def count(body: AssistantFilter, server: ServerDep, caller: CallerDep) -> Response:
    """Count assistants."""
    filters = await _allowed(server, caller, body)
    async with connection(server.pool) as conn:
        return Json(await assistants.count(conn, filters))


@router.get("/{assistant_id}", response_model=AssistantModel, responses=problems(404))
async def get(assistant_id: AssistantId, server: ServerDep, caller: CallerDep) -> Response:
    """Get an assistant."""
    return Json(assistant_json(await _existing(server, caller, assistant_id)))


@router.patch("/{assistant_id}", response_model=AssistantModel, responses=problems(400, 404, 429))
async def patch(assistant_id: AssistantId, body: AssistantPatch, server: ServerDep, caller: CallerDep) -> Response:
    """Change an assistant: each change makes a new version."""
    value: JsonObject = {**body.model_dump(exclude_none=True), "assistant_id": assistant_id}
    visible_to = await caller.ask("assistants", "update", value)
    body = AssistantPatch.model_validate(value)
    if body.graph_id is not None:
        _require_graph(server, body.graph_id)
    room = await room_of(server, caller)
    async with transaction(server.pool) as conn:
        current = await assistants.lock(conn, assistant_id, visible_to=visible_to)
        async with stored.room(conn, await stored.of_assistant(conn, assistant_id, room)):
            revised = current and await assistants.revise(conn, _patched(current, body))
        if revised:
            require_own(revised.metadata, visible_to)
    return Json(assistant_json(_found(revised, assistant_id)))


@router.delete("/{assistant_id}", status_code=204, responses=problems(404, 409))
async def delete(
    assistant_id: AssistantId, server: ServerDep, caller: CallerDep, delete_threads: str = "false"
) -> Response:
    """Delete an assistant with its crons, interrupting its runs; with `delete_threads`, also the threads that it last ran on."""
    visible_to = await caller.ask("assistants", "delete", {"assistant_id": assistant_id})
    if assistant_id in {system_assistant_id(graph_id) for graph_id in server.graphs}:
        raise Conflict("The assistant that a graph has by itself cannot be deleted.")
    async with connection(server.pool) as conn:
        _found(await assistants.get(conn, assistant_id, visible_to=visible_to), assistant_id)
        threads = await assistants.thread_ids(conn, assistant_id) if delete_threads.lower() in TRUE else []
    doomed = [(thread_id, await caller.may_delete(thread_id)) for thread_id in threads]
    async with transaction(server.pool) as conn:
        in_flight = await assistants.runs_in_flight(conn, assistant_id)
        timed = await crons.of_assistant(conn, assistant_id)
        if not await assistants.delete(conn, assistant_id, visible_to=visible_to):
            raise NotFound(f"Assistant with ID {assistant_id} not found")
    await unschedule(server.temporal, timed)
    for thread_id, run_ids in in_flight.items():
        await cancel(server, thread_id, run_ids=run_ids, action="interrupt", reason="the assistant was deleted")
    for start in range(0, len(doomed), AT_ONCE):
        some = doomed[start : start + AT_ONCE]
        await asyncio.gather(*(remove(server, thread_id, visible_to=mine) for thread_id, mine in some))
    return Response(status_code=204)


@router.get("/{assistant_id}/graph", response_model=DrawnGraph, responses=problems(404, 504))
async def get_graph(assistant_id: str, server: ServerDep, caller: CallerDep, xray: str = "false") -> Response:
    """Draw an assistant's graph: its nodes and edges. `assistant_id` may be the name of a graph."""
    depth = _xray(xray)
    visible_to = await _may_read(caller, assistant_id_of(server.graphs, assistant_id))
    async with connection(server.pool) as conn:
        assistant = await find_assistant(conn, server.graphs, assistant_id, visible_to=visible_to)
    config = _config(assistant)

    async def draw() -> bytes:
        async with server.graphs.open(assistant.graph_id, config=config, store=server.store) as graph:
            try:
                drawn = (await graph.aget_graph(config, xray=depth)).to_json()
            except Exception as error:
                raise Invalid(f"Graph '{assistant.graph_id}' cannot be drawn: {type(error).__name__}") from error
        return dumps({**drawn, "nodes": [_node(node) for node in drawn["nodes"]]})

    return Encoded(await server.apart(draw))


@router.get("/{assistant_id}/schemas", response_model=GraphSchemaModel, responses=problems(404, 504))
async def get_schemas(assistant_id: AssistantId, server: ServerDep, caller: CallerDep) -> Response:
    """Describe what an assistant's graph takes, gives and keeps, as JSON schemas."""
    assistant = await _existing(server, caller, assistant_id)
    config = _config(assistant)

    async def describe() -> bytes:
        async with server.graphs.open(assistant.graph_id, config=config, store=server.store) as graph:
            return dumps({"graph_id": assistant.graph_id, **schemas_of(graph)})

    return Encoded(await server.apart(describe))


@router.get("/{assistant_id}/subgraphs", response_model=dict[str, SubgraphSchemas], responses=problems(404, 504))
async def get_subgraphs(
    assistant_id: AssistantId, server: ServerDep, caller: CallerDep, recurse: str = "false"
) -> Response:
    """Describe the subgraphs of an assistant's graph, by namespace."""
    return await _subgraphs(server, caller, assistant_id, namespace=None, recurse=recurse.lower() in TRUE)


@router.get(
    "/{assistant_id}/subgraphs/{namespace:path}",
    response_model=dict[str, SubgraphSchemas],
    responses=problems(404, 504),
)
async def get_subgraph(
    assistant_id: AssistantId, namespace: str, server: ServerDep, caller: CallerDep, recurse: str = "false"
) -> Response:
    """Describe one subgraph of an assistant's graph; nothing if there is none of that namespace."""
    return await _subgraphs(server, caller, assistant_id, namespace=namespace, recurse=recurse.lower() in TRUE)


@router.post("/{assistant_id}/versions", response_model=list[AssistantVersionModel], responses=problems(404))
async def versions(assistant_id: AssistantId, body: VersionSearch, server: ServerDep, caller: CallerDep) -> Response:
    """List the versions of an assistant, newest first."""
    value: JsonObject = {"assistant_id": assistant_id, "metadata": body.metadata}
    visible_to = await caller.ask("assistants", "read", value)
    metadata = value.get("metadata") or {}
    async with connection(server.pool) as conn:
        found = await assistants.versions(
            conn, assistant_id, metadata=metadata, limit=body.limit, offset=body.offset, visible_to=visible_to
        )
    if not found:
        raise NotFound(f"Assistant with ID {assistant_id} has no such versions")
    shown = [assistant_json(version) for version in found]
    return Json([{key: value for key, value in version.items() if key != "updated_at"} for version in shown])


@router.post("/{assistant_id}/latest", response_model=AssistantModel, responses=problems(404))
async def set_latest(assistant_id: AssistantId, body: VersionChoice, server: ServerDep, caller: CallerDep) -> Response:
    """Make an assistant what one of its versions was, in everything."""
    visible_to = await caller.ask("assistants", "update", {"assistant_id": assistant_id, "version": body.version})
    async with transaction(server.pool) as conn:
        restored = await assistants.restore(conn, assistant_id, body.version, visible_to=visible_to)
        if restored:
            require_own(restored.metadata, visible_to)
    if restored is None:
        raise NotFound(f"Assistant with ID {assistant_id} has no version {body.version}")
    return Json(assistant_json(restored))


def _require_graph(server: Server, graph_id: str) -> None:
    if graph_id not in server.graphs:
        raise NotFound(f"Graph '{graph_id}' not found. Available graphs: {', '.join(server.graphs)}")


def _found(assistant: Assistant | None, assistant_id: UUID) -> Assistant:
    if assistant is None:
        raise NotFound(f"Assistant with ID {assistant_id} not found")
    return assistant


async def _may_read(caller: Caller, assistant_id: UUID) -> Filter | None:
    return await caller.ask("assistants", "read", {"assistant_id": assistant_id})


async def _existing(server: Server, caller: Caller, assistant_id: UUID) -> Assistant:
    visible_to = await _may_read(caller, assistant_id)
    async with connection(server.pool) as conn:
        return _found(await assistants.get(conn, assistant_id, visible_to=visible_to), assistant_id)


async def _allowed(server: Server, caller: Caller, body: AssistantFilter, **part: int) -> JsonObject:
    """Return the filters of a search, with those that the caller is subject to."""
    value: JsonObject = {"metadata": body.metadata or {}, "graph_id": body.graph_id, "name": body.name, **part}
    visible_to = await caller.ask("assistants", "search", value)
    if graph_id := value.get("graph_id"):
        _require_graph(server, graph_id)
    return {"metadata": value.get("metadata"), "graph_id": graph_id, "name": value.get("name"), "only": visible_to}


def _mirrored(given: ConfigBody, context: dict[str, Any]) -> tuple[JsonObject, JsonObject]:
    """Return config and context, each with what the other says."""
    config: JsonObject = given.model_dump(exclude_none=True)
    configurable, context = strip_reserved(config.pop("configurable", {})), strip_reserved(context)
    asked, configurable = of_server(configurable), without_server(configurable)
    if configurable and context:
        raise BadRequest("Cannot specify both configurable and context. Prefer setting context alone.")
    both = configurable or context
    said = {**both, **asked}
    return ({**config, "configurable": said} if said else config), dict(both)


def _patched(current: Assistant, body: AssistantPatch) -> Assistant:
    config, context = current.config, current.context
    if body.config is not None or body.context is not None:
        config, context = _mirrored(body.config or ConfigBody(), body.context or {})
    return replace(
        current,
        graph_id=body.graph_id or current.graph_id,
        name=body.name if body.name is not None else current.name,
        description=body.description if body.description is not None else current.description,
        config=config,
        context=context,
        metadata={**current.metadata, **(body.metadata or {})},
    )


def _config(assistant: Assistant) -> RunnableConfig:
    """Build the config that a graph is opened with to be looked at."""
    ids = {"graph_id": assistant.graph_id, "assistant_id": str(assistant.assistant_id)}
    configurable = {**assistant.config.get("configurable", {}), **forwarded(), **ids}
    return cast(RunnableConfig, {**assistant.config, "configurable": configurable})


def _node(drawn: JsonObject) -> JsonObject:
    """Show a node by its name: where its class is defined is nobody's business."""
    data = drawn.get("data")
    if not isinstance(data, dict):
        return drawn
    return {**drawn, "data": {key: value for key, value in cast(JsonObject, data).items() if key != "id"}}


def _xray(value: str) -> bool | int:
    if value.lower() in ("true", "false", ""):
        return value.lower() == "true"
    if value.isascii() and value.isdigit() and 0 < int(value) < 1000:
        return int(value)
    raise Invalid("Invalid xray value: must be true, false or a positive number")


async def _subgraphs(
    server: Server, caller: Caller, assistant_id: UUID, *, namespace: str | None, recurse: bool
) -> Response:
    assistant = await _existing(server, caller, assistant_id)
    config = _config(assistant)

    async def describe() -> bytes:
        async with server.graphs.open(assistant.graph_id, config=config, store=server.store) as graph:
            found = graph.aget_subgraphs(namespace=namespace, recurse=recurse)
            return dumps({name: schemas_of(subgraph) async for name, subgraph in found})

    return Encoded(await server.apart(describe))
