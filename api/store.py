"""The store: `client.store`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Query
from langgraph.store.base import Item, NamespacePath, SearchItem
from pydantic import AfterValidator, Field
from starlette.responses import Response

from durathread.api.deps import ServerDep
from durathread.api.errors import problems
from durathread.api.json import Json
from durathread.api.schemas import FoundItems, FoundNamespaces, ItemModel
from durathread.api.searching import MOST, Page, Text, clean
from durathread.encode import jsonable
from durathread.errors import BadRequest, Invalid
from durathread.preparation import Body
from durathread.records import JsonObject
from durathread.store.items import OPERATORS

router = APIRouter(prefix="/store", tags=["Store"])

RESERVED = "langgraph"
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


@router.put("/items", status_code=204, responses=problems(400))
async def put(body: ItemPut, server: ServerDep) -> Response:
    """Keep an item, in place of one of the same key."""
    if not body.namespace:
        raise BadRequest("Namespace cannot be empty.")
    if body.namespace[0] == RESERVED:
        raise BadRequest(f"The first label of a namespace cannot be '{RESERVED}'.")
    ttl: JsonObject = {} if body.ttl is None else {"ttl": body.ttl}
    await server.store.aput(tuple(body.namespace), body.key, body.value, body.index, **ttl)
    return Response(status_code=204)


@router.get("/items", response_model=ItemModel | None, responses=problems(400))
async def get(
    server: ServerDep,
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
    found = await server.store.aget(labels, clean(key), refresh_ttl=refresh)
    return Json(found and _shown(found))


@router.delete("/items", status_code=204, responses=problems())
async def delete(body: ItemDelete, server: ServerDep) -> Response:
    """Delete an item, if it is there."""
    await server.store.adelete(tuple(body.namespace), body.key)
    return Response(status_code=204)


@router.post("/items/search", response_model=FoundItems, responses=problems(400))
async def search(body: ItemSearch, server: ServerDep) -> Response:
    """Find items: those nearest to the query first, or the newest first."""
    _check(body.filter or {})
    found = await server.store.asearch(
        tuple(body.namespace_prefix or ()),
        query=body.query or None,
        filter=_explicit(body.filter),
        # LangGraph looks at no more vectors than a page needs, whichever page it is.
        limit=body.offset + body.limit if body.query else body.limit,
        offset=0 if body.query else body.offset,
        refresh_ttl=body.refresh_ttl,
    )
    shown = found[body.offset :] if body.query else found
    return Json({"items": [{**_shown(item), "score": item.score} for item in shown]})


@router.post("/namespaces", response_model=FoundNamespaces, responses=problems())
async def namespaces(body: NamespaceSearch, server: ServerDep) -> Response:
    """List the namespaces that hold items."""
    found = await server.store.alist_namespaces(
        prefix=_path(body.prefix),
        suffix=_path(body.suffix),
        max_depth=body.max_depth,
        limit=body.limit,
        offset=body.offset,
    )
    return Json({"namespaces": found})


def _path(labels: Namespace | None) -> NamespacePath | None:
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


def _explicit(wanted: JsonObject | None) -> JsonObject | None:
    """Say what LangGraph would compare by itself, and would not find if it is null."""
    if not wanted:
        return None
    return {key: value if isinstance(value, dict) else {"$eq": value} for key, value in wanted.items()}
