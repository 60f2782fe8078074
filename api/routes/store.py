"""The store: `client.store`."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, cast

from fastapi import Query
from langgraph.store.base import Item, NamespacePath, PutOp, SearchItem
from pydantic import AfterValidator, Field
from starlette.responses import Response

from durathread.api.auth.authorization import CallerDep
from durathread.api.deps import Server, ServerDep
from durathread.api.http.bodies import Routes
from durathread.api.http.error_answers import problems
from durathread.api.http.json_answers import Json
from durathread.api.openapi.schemas import FoundItems, FoundNamespaces, ItemModel
from durathread.api.services.allowances import room_of
from durathread.api.services.searching import MOST, Page, Text, clean
from durathread.db.filters import Filter
from durathread.db.guarded_store import GuardedItems
from durathread.db.memory_store import ONLY, OPERATORS
from durathread.encode import jsonable
from durathread.errors import BadRequest, Invalid
from durathread.records import JsonObject
from durathread.runs.request import Body

router = Routes(prefix="/store", tags=["Store"])

RESERVED = "langgraph"
# The namespace, its labels joined by dots, and the key together, in bytes: what an index of Postgres surely takes.
LONGEST_NAME = 2000
TRUE = ("true", "yes", "1")
# Minutes: what Postgres' intervals read back, and a hundred years.
SHORTEST, LONGEST = 0.001, 100 * 365 * 1440


def _label(label: str) -> str:
    if not label or "." in label:
        raise ValueError("a label of a namespace must not be empty, and must not contain a dot")
    return label


Namespace = list[Annotated[Text, AfterValidator(_label)]]


class ItemPut(Body):
    """An item to keep."""

    namespace: Namespace
    key: Text
    value: dict[str, Any]
    index: Literal[False] | list[Text] | None = Field(
        None, description="The paths to search by; false for none; null for those that langgraph.json names."
    )
    ttl: float | None = Field(None, ge=SHORTEST, le=LONGEST, description="Minutes; null for the default.")


class ItemDelete(Body):
    """The item to delete."""

    namespace: Namespace
    key: Text


class ItemSearch(Page):
    """Which items to find."""

    namespace_prefix: Namespace | None = None
    filter: Annotated[dict[str, Any], AfterValidator(jsonable)] | None = Field(
        None, description="What values are, or operators: `$eq $ne $gt $gte $lt $lte`."
    )
    query: Text | None = Field(None, description="What the items are about; needs `store.index` in langgraph.json.")
    refresh_ttl: bool | None = None


class NamespaceSearch(Body):
    """Which namespaces to list. `*` stands for any label."""

    prefix: Namespace | None = None
    suffix: Namespace | None = None
    max_depth: int | None = Field(None, ge=1, lt=2**31)
    limit: int = Field(100, ge=1, le=MOST)
    offset: int = Field(0, ge=0, lt=2**31)


@router.put("/items", status_code=204, responses=problems(400, 409, 429))
async def put(body: ItemPut, server: ServerDep, caller: CallerDep) -> Response:
    """Keep an item, in place of one of the same key. Namespace and key together have at most 2,000 bytes."""
    value: JsonObject = {"namespace": tuple(body.namespace), "key": body.key, "value": body.value, "index": body.index}
    visible_to = await caller.ask("store", "put", value)
    namespace = _allowed(value)
    if not namespace:
        raise BadRequest("Namespace cannot be empty.")
    if namespace[0] == RESERVED:
        raise BadRequest(f"The first label of a namespace cannot be '{RESERVED}'.")
    _require_short(*namespace, value["key"])
    stamp: JsonObject = {**(visible_to.sole if visible_to else {}), **(value.get("metadata") or {})}
    # Not refused before it is looked at: it may take the place of something larger.
    room = await room_of(server, caller, creates=False)
    is_claimed = visible_to is not None or bool(stamp)
    if is_claimed or room.most is not None:
        op = PutOp(namespace, value["key"], value["value"], value["index"], body.ttl)
        await _guarded(server).put(op, stamp=stamp if is_claimed else None, visible_to=visible_to, room=room)
    else:
        ttl: JsonObject = {} if body.ttl is None else {"ttl": body.ttl}
        await server.store.aput(namespace, value["key"], value["value"], value["index"], **ttl)
    return Response(status_code=204)


@router.get("/items", response_model=ItemModel | None, responses=problems(400))
async def get(
    server: ServerDep,
    caller: CallerDep,
    namespace: Annotated[str, Query(description="Labels, joined by dots.")] = "",
    key: str | None = None,
    refresh_ttl: str = "",
) -> Response:
    """Get an item; null if there is none."""
    if key is None:
        raise BadRequest("Key is required")
    labels = tuple(clean(namespace).split("."))
    if not all(labels):
        raise Invalid("namespace: labels must not be empty")
    refresh = refresh_ttl.lower() in TRUE if refresh_ttl else None
    value: JsonObject = {"namespace": labels, "key": clean(key)}
    visible_to = await caller.ask("store", "get", value)
    if visible_to is None:
        found = await server.store.aget(_allowed(value), value["key"], refresh_ttl=refresh)
    else:
        found = await _guarded(server).get(_allowed(value), value["key"], visible_to=visible_to, refresh=refresh)
    return Json(found and _shown(found))


@router.delete("/items", status_code=204, responses=problems())
async def delete(body: ItemDelete, server: ServerDep, caller: CallerDep) -> Response:
    """Delete an item, if it is there."""
    value: JsonObject = {"namespace": tuple(body.namespace), "key": body.key}
    visible_to = await caller.ask("store", "delete", value)
    if visible_to is None:
        await server.store.adelete(_allowed(value), value["key"])
    else:
        await _guarded(server).delete(_allowed(value), value["key"], visible_to=visible_to)
    return Response(status_code=204)


@router.post("/items/search", response_model=FoundItems, responses=problems(400))
async def search(body: ItemSearch, server: ServerDep, caller: CallerDep) -> Response:
    """Find items: those nearest to the query first, or the newest first."""
    _check(body.filter or {})
    value: JsonObject = {
        "namespace": tuple(body.namespace_prefix or ()),
        "filter": body.filter,
        "limit": body.limit,
        "offset": body.offset,
        "query": body.query or None,
    }
    visible_to = await caller.ask("store", "search", value)
    query, limit, offset = value["query"], value["limit"], value["offset"]
    found = await server.store.asearch(
        _allowed(value),
        query=query,
        filter=_narrowed(_explicit(value["filter"]), visible_to),
        # LangGraph looks at no more vectors than a page needs, whichever page it is.
        limit=offset + limit if query else limit,
        offset=0 if query else offset,
        refresh_ttl=body.refresh_ttl,
    )
    shown = found[offset:] if query else found
    return Json({"items": [{**_shown(item), "score": item.score} for item in shown]})


@router.post("/namespaces", response_model=FoundNamespaces, responses=problems())
async def namespaces(body: NamespaceSearch, server: ServerDep, caller: CallerDep) -> Response:
    """List the namespaces that hold items."""
    value: JsonObject = {
        "namespace": tuple(body.prefix) if body.prefix else None,
        "suffix": tuple(body.suffix) if body.suffix else None,
        "max_depth": body.max_depth,
        "limit": body.limit,
        "offset": body.offset,
    }
    visible_to = await caller.ask("store", "list_namespaces", value)
    prefix, suffix = _allowed(value), tuple(value["suffix"] or ())
    _require_short(*prefix)
    _require_short(*suffix)
    if visible_to is not None:
        asked = {**value, "prefix": prefix, "suffix": suffix}
        return Json({"namespaces": await _guarded(server).namespaces(asked, visible_to=visible_to)})
    found = await server.store.alist_namespaces(
        prefix=_path(prefix),
        suffix=_path(suffix),
        max_depth=value["max_depth"],
        limit=value["limit"],
        offset=value["offset"],
    )
    return Json({"namespaces": found})


def _guarded(server: Server) -> GuardedItems:
    assert server.guarded is not None
    return server.guarded


def _allowed(value: JsonObject) -> tuple[str, ...]:
    """Return the namespace that a handler has left.

    Raises:
        Invalid: it is none: one of its labels cannot be stored.
    """
    labels = tuple(str(label) for label in value.get("namespace") or ())
    try:
        return tuple(_label(label) for label in labels)
    except ValueError as error:
        raise Invalid(f"namespace: {error}") from error


def _require_short(*parts: str) -> None:
    """Refuse what would be too long for an index, or too long to be searched for.

    Raises:
        Invalid: it is.
    """
    if len(".".join(parts).encode(errors="replace")) > LONGEST_NAME:
        raise Invalid(f"namespace and key must not have more than {LONGEST_NAME} bytes together")


def _path(labels: Sequence[str] | None) -> NamespacePath | None:
    return cast(NamespacePath, tuple(labels)) if labels else None


def _shown(item: Item | SearchItem) -> JsonObject:
    return {
        "namespace": item.namespace,
        "key": item.key,
        "value": item.value,
        "created_at": item.created_at,
        "updated_at": item.updated_at,
    }


def _check(wanted: Mapping[str, Any]) -> None:
    for value in wanted.values():
        if not isinstance(value, dict):
            continue
        inner = cast(JsonObject, value)
        if unknown := [key for key in inner if key.startswith("$") and key not in OPERATORS]:
            raise BadRequest(f"Unknown operator {unknown[0]}: there are {', '.join(OPERATORS)}")
        _check({key: item for key, item in inner.items() if not key.startswith("$")})


def _narrowed(wanted: JsonObject | None, visible_to: Filter | None) -> JsonObject | None:
    """Add what the caller's items contain."""
    if visible_to is None:
        return wanted
    given = wanted or {}
    return {**given, "": {**given.get("", {}), ONLY: visible_to.documents}}


def _explicit(wanted: JsonObject | None) -> JsonObject | None:
    """Say what LangGraph would compare by itself, and would not find if it is null."""
    if not wanted:
        return None
    return {key: value if isinstance(value, dict) else {"$eq": value} for key, value in wanted.items()}
