"""The store under the README's example, which says nothing of namespaces: what is another's is not there all the same."""

from typing import Any, cast
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient


@pytest.fixture
async def notes(alice: LangGraphClient) -> list[str]:
    """A namespace that holds an item of Alice's, `secret`."""
    namespace = ["alice", uuid4().hex]
    await alice.store.put_item(namespace, key="secret", value={"text": "mine", "owner": "bob"})
    return namespace


async def test_whoever_puts_an_item_has_it(alice: LangGraphClient, notes: list[str]) -> None:
    item = cast(Any, await alice.store.get_item(notes, key="secret"))
    assert item["value"] == {"text": "mine", "owner": "bob"}
    assert [found["key"] for found in (await alice.store.search_items(notes))["items"]] == ["secret"]
    listed = await alice.store.list_namespaces(prefix=["*"], suffix=notes[1:], max_depth=2)
    assert listed["namespaces"] == [notes]
    assert (await alice.store.list_namespaces(prefix=notes, max_depth=1))["namespaces"] == [notes[:1]]
    await alice.store.put_item(notes, key="secret", value={"text": "changed"})
    assert cast(Any, await alice.store.get_item(notes, key="secret"))["value"] == {"text": "changed"}
    await alice.store.delete_item(notes, key="secret")
    assert await alice.store.get_item(notes, key="secret") is None


async def test_nobody_else_reads_it(bob: LangGraphClient, notes: list[str]) -> None:
    assert await bob.store.get_item(notes, key="secret") is None
    assert (await bob.store.search_items(notes))["items"] == []
    assert (await bob.store.search_items(notes, filter={"owner": "bob"}))["items"] == []
    assert (await bob.store.list_namespaces(prefix=notes))["namespaces"] == []


async def test_nobody_else_overwrites_or_deletes_it(
    alice: LangGraphClient, bob: LangGraphClient, notes: list[str]
) -> None:
    with pytest.raises(httpx.HTTPStatusError) as refused:
        await bob.store.put_item(notes, key="secret", value={"text": "stolen"})
    assert refused.value.response.status_code == 409
    await bob.store.delete_item(notes, key="secret")
    assert cast(Any, await alice.store.get_item(notes, key="secret"))["value"]["text"] == "mine"


async def test_an_item_may_lie_beside_anothers(alice: LangGraphClient, bob: LangGraphClient, notes: list[str]) -> None:
    await bob.store.put_item(notes, key="other", value={})
    assert [found["key"] for found in (await alice.store.search_items(notes))["items"]] == ["secret"]
    assert [found["key"] for found in (await bob.store.search_items(notes))["items"]] == ["other"]
