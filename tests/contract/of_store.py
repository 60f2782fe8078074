"""What `client.store` promises."""

from typing import Any
from uuid import uuid4

from tests.contract.calling import Caller


async def put_item(call: Caller) -> None:
    """A value is kept, and replaced; it may expire, and need not be indexed."""
    space = [str(uuid4()), "notes"]
    await call("store.put_item", space, "k", {"n": 1})
    await call("store.put_item", space, "k", {"n": 2}, index=False, ttl=60)
    item = await call("store.get_item", space, "k")
    assert (item["namespace"], item["key"], item["value"]) == (space, "k", {"n": 2})


async def get_item(call: Caller) -> None:
    """What is not there is null."""
    space = [str(uuid4())]
    assert await call("store.get_item", space, "k", refresh_ttl=False) is None
    await call("store.put_item", space, "k", {"n": 1})
    assert (await call("store.get_item", space, key="k"))["value"] == {"n": 1}


async def delete_item(call: Caller) -> None:
    """What is deleted is gone, and may be deleted again."""
    space = [str(uuid4())]
    await call("store.put_item", space, "k", {"n": 1})
    for _ in range(2):
        await call("store.delete_item", space, "k")
        assert await call("store.get_item", space, "k") is None


async def search_items(call: Caller) -> None:
    """Below a prefix, by filter and by page."""
    top = str(uuid4())
    for number in range(3):
        await call("store.put_item", [top, "deep"], f"k{number}", {"n": number, "kind": "x"})
    asked: dict[str, Any] = {"filter": {"kind": "x", "n": {"$gte": 1}}, "query": "anything", "refresh_ttl": True}
    found = await call("store.search_items", [top], **asked)
    assert sorted(item["value"]["n"] for item in found["items"]) == [1, 2]
    pages = [(await call("store.search_items", [top], limit=2, offset=at))["items"] for at in (0, 2)]
    assert [len(page) for page in pages] == [2, 1]


async def list_namespaces(call: Caller) -> None:
    """By prefix, suffix, depth and page."""
    top = str(uuid4())
    for rest in (["a", "x"], ["b", "x"], ["b", "y"]):
        await call("store.put_item", [top, *rest], "k", {})
    found = await call("store.list_namespaces", [top], suffix=["x"])
    assert found["namespaces"] == [[top, "a", "x"], [top, "b", "x"]]
    found = await call("store.list_namespaces", prefix=[top], max_depth=2, limit=1, offset=1)
    assert found["namespaces"] == [[top, "b"]]
