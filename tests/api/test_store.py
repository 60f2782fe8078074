"""Items of the store, through the SDK's client and, where that refuses by itself, by plain HTTP."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import BadRequestError, UnprocessableEntityError

from durathread.config.langgraph_json import parse
from durathread.db.memory_store import prepare_index
from durathread.db.migrate import upgrade
from durathread.embedded.engines import Engines
from durathread.errors import ConfigError
from durathread.graphs.indexing import store_config
from durathread.graphs.registry import Graphs
from tests.conftest import environment_of, own_database
from tests.eventually import eventually
from tests.stack import GRAPHS, Stack, running

SEMANTIC = GRAPHS.with_name("semantic.json")
SECOND = 1 / 60
"""In minutes."""


@pytest.fixture
def space() -> str:
    """A label that no namespace has."""
    return uuid4().hex


@pytest.fixture(scope="module")
async def semantic(engine_set: Engines, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A server whose items are found by what they mean, on a database of its own."""
    async with own_database(engine_set) as url:
        upgrade(url)
        environment = environment_of(engine_set, queue="semantic", config=SEMANTIC) | {"DATABASE_URL": url}
        async with running(environment, tmp_path_factory.mktemp("semantic")) as stack:
            yield stack


@pytest.fixture
async def searcher(semantic: Stack) -> AsyncIterator[LangGraphClient]:
    """The SDK's client of that server."""
    async with get_client(url=semantic.url) as found:
        yield found


@pytest.fixture
async def http(server: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """Plain HTTP."""
    async with httpx.AsyncClient(base_url=server.url) as found:
        yield found


async def keys(client: LangGraphClient, *namespace: str, **kwargs: Any) -> list[str]:
    return [item["key"] for item in (await client.store.search_items(namespace, **kwargs))["items"]]


async def test_an_item_is_kept_and_read_and_deleted(client: LangGraphClient, space: str) -> None:
    await client.store.put_item([space, "b"], key="k", value={"a": [1, {"b": "ü"}]})
    item: Any = await client.store.get_item([space, "b"], key="k")
    assert item["namespace"] == [space, "b"]
    assert item["key"] == "k"
    assert item["value"] == {"a": [1, {"b": "ü"}]}
    assert set(item) == {"namespace", "key", "value", "created_at", "updated_at"}
    await client.store.delete_item([space, "b"], key="k")
    item = await client.store.get_item([space, "b"], key="k")
    assert item is None
    await client.store.delete_item([space, "b"], key="k")


async def test_an_overwritten_item_keeps_the_time_of_its_creation(client: LangGraphClient, space: str) -> None:
    await client.store.put_item([space], key="k", value={"n": 1})
    first = await client.store.get_item([space], key="k")
    await client.store.put_item([space], key="k", value={"n": 2})
    second = await client.store.get_item([space], key="k")
    assert second["value"] == {"n": 2}
    assert second["created_at"] == first["created_at"]
    assert second["updated_at"] > first["updated_at"]


async def test_an_empty_key_is_a_key_but_a_missing_one_is_not(
    client: LangGraphClient, http: httpx.AsyncClient, space: str
) -> None:
    await client.store.put_item([space], key="", value={"n": 1})
    assert (await client.store.get_item([space], key=""))["value"] == {"n": 1}
    missing = await http.get("/store/items", params={"namespace": space})
    assert (missing.status_code, missing.json()) == (400, {"detail": "Key is required"})


async def test_statuses_have_no_body(http: httpx.AsyncClient, space: str) -> None:
    put = await http.put("/store/items", json={"namespace": [space], "key": "k", "value": {}})
    assert (put.status_code, put.content) == (204, b"")
    gone = await http.request("DELETE", "/store/items", json={"namespace": [space], "key": "k"})
    assert (gone.status_code, gone.content) == (204, b"")
    miss = await http.get("/store/items", params={"namespace": space, "key": "k"})
    assert (miss.status_code, miss.content) == (200, b"null")


@pytest.mark.parametrize("label", ["a.b", "", 7, None])
@pytest.mark.parametrize(
    ("method", "path", "field"),
    [
        ("PUT", "/store/items", "namespace"),
        ("DELETE", "/store/items", "namespace"),
        ("POST", "/store/items/search", "namespace_prefix"),
        ("POST", "/store/namespaces", "prefix"),
        ("POST", "/store/namespaces", "suffix"),
    ],
)
async def test_labels_are_strings_without_dots(
    http: httpx.AsyncClient, method: str, path: str, field: str, label: Any
) -> None:
    body = {field: ["a", label], "key": "k", "value": {}}
    answer = await http.request(method, path, json=body)
    assert answer.status_code == 422
    assert field in answer.json()["detail"]


@pytest.mark.parametrize("namespace", [[], ["langgraph"], ["langgraph", "a"]])
async def test_nothing_is_kept_in_the_root_or_under_langgraph(client: LangGraphClient, namespace: list[str]) -> None:
    with pytest.raises(BadRequestError):
        await client.store.put_item(namespace, key="k", value={})


@pytest.mark.parametrize("namespace", ["", "a..b", ".a"])
async def test_a_namespace_of_a_query_has_no_empty_label(http: httpx.AsyncClient, namespace: str) -> None:
    answer = await http.get("/store/items", params={"namespace": namespace, "key": "k"})
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)


@pytest.mark.parametrize(
    "body",
    [{}, {"namespace": ["a"], "key": "k"}, {"namespace": "a", "key": "k", "value": {}}]
    + [{"namespace": ["a"], "key": "k", "value": value} for value in ([], "x", None)]
    + [{"namespace": ["a"], "key": "k", "value": {}, "ttl": ttl} for ttl in (0, -1, "soon", 1e300)]
    + [{"namespace": ["a"], "key": "k", "value": {}, "index": index} for index in (True, "text", [1])],
)
async def test_an_item_that_cannot_be_is_refused(http: httpx.AsyncClient, body: dict[str, Any]) -> None:
    assert (await http.put("/store/items", json=body)).status_code == 422


async def test_characters_that_postgres_cannot_store_are_replaced(http: httpx.AsyncClient, space: str) -> None:
    body = {"namespace": [space, "a\x00"], "key": "k\x00", "value": {"n\x00": "v\x00"}}
    assert (await http.put("/store/items", json=body)).status_code == 204
    found = await http.get("/store/items", params={"namespace": f"{space}.a\x00", "key": "k\x00"})
    assert found.json()["value"] == {"n\ufffd": "v\ufffd"}
    searched = await http.post("/store/items/search", json={"namespace_prefix": [space], "filter": {"n\x00": "v\x00"}})
    assert searched.status_code == 200


async def test_a_search_lists_the_newest_first_and_by_pages(client: LangGraphClient, space: str) -> None:
    for number in range(5):
        await client.store.put_item([space, str(number)], key=f"k{number}", value={"n": number})
    assert await keys(client, space) == ["k4", "k3", "k2", "k1", "k0"]
    assert await keys(client, space, limit=2, offset=1) == ["k3", "k2"]
    assert await keys(client, space, "3") == ["k3"]
    assert await keys(client, space[:-1]) == []
    found: Any = await client.store.search_items([space], limit=1)
    assert found["items"][0]["score"] is None


@pytest.mark.parametrize("body", [{}, {"namespace_prefix": None}, {"namespace_prefix": []}])
async def test_a_search_without_a_prefix_is_a_search_of_all(
    client: LangGraphClient, http: httpx.AsyncClient, space: str, body: dict[str, Any]
) -> None:
    await client.store.put_item([space], key="k", value={"mark": space})
    answer = await http.post("/store/items/search", json={**body, "filter": {"mark": space}})
    assert [item["key"] for item in answer.json()["items"]] == ["k"]


VALUES = {
    "nine": {"n": 9, "name": "b", "tags": ["x", "y"], "inner": {"a": 1, "deep": {"b": True}}},
    "ten": {"n": 10, "name": "a", "tags": ["x"], "inner": {"a": 2, "deep": {"b": False}}},
    "none": {"n": None, "name": "c"},
    "text": {"n": "9"},
}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"n": 9}, {"nine"}),
        ({"n": 9.0}, {"nine"}),
        ({"n": "9"}, {"text"}),
        ({"n": None}, {"none"}),
        ({"n": {"$eq": 10}}, {"ten"}),
        ({"n": {"$ne": 9}}, {"ten", "none", "text"}),
        ({"n": {"$gt": 9}}, {"ten"}),
        ({"n": {"$gte": 9, "$lt": 10}}, {"nine"}),
        ({"n": {"$lte": 10}}, {"nine", "ten"}),
        ({"name": {"$gt": "a"}}, {"nine", "none"}),
        ({"tags": ["x", "y"]}, {"nine"}),
        ({"tags": ["x"]}, {"ten"}),
        ({"inner": {"a": 1}}, {"nine"}),
        ({"inner": {"deep": {"b": False}}}, {"ten"}),
        ({"inner": {"a": {"$gt": 1}}}, {"ten"}),
        ({"missing": None, "name": "c"}, {"none"}),
        ({"n": 9, "name": "a"}, set[str]()),
        ({}, set(VALUES)),
    ],
)
async def test_filters_compare_values_by_their_type(
    client: LangGraphClient, space: str, wanted: dict[str, Any], found: set[str]
) -> None:
    for key, value in VALUES.items():
        await client.store.put_item([space], key=key, value=value)
    assert set(await keys(client, space, filter=wanted)) == found


@pytest.mark.parametrize("wanted", [{"n": {"$in": [1]}}, {"n": {"inner": {"$regex": "x"}}}])
async def test_an_unknown_operator_is_a_bad_request(
    client: LangGraphClient, space: str, wanted: dict[str, Any]
) -> None:
    with pytest.raises(BadRequestError, match="Unknown operator"):
        await client.store.search_items([space], filter=wanted)


@pytest.mark.parametrize("limits", [{"limit": 0}, {"limit": 1001}, {"offset": -1}])
async def test_pages_have_bounds(client: LangGraphClient, limits: dict[str, Any]) -> None:
    with pytest.raises(UnprocessableEntityError):
        await client.store.search_items(["a"], **limits)
    with pytest.raises(UnprocessableEntityError):
        await client.store.list_namespaces(**limits)


async def test_a_query_without_an_index_is_ignored(client: LangGraphClient, space: str) -> None:
    await client.store.put_item([space], key="k", value={"text": "a cat"})
    found: Any = await client.store.search_items([space], query="a train")
    assert [(item["key"], item["score"]) for item in found["items"]] == [("k", None)]


def noise(length: int) -> str:
    """Build what does not get shorter when it is compressed."""
    return secrets.token_hex(length)[:length]


async def test_a_name_that_no_index_takes_is_refused(http: httpx.AsyncClient, space: str) -> None:
    longest = noise(2000 - len(space) - 1)
    kept = await http.put("/store/items", json={"namespace": [space], "key": longest, "value": {}})
    assert kept.status_code == 204
    for namespace, key in (
        ([space], longest + "x"),
        ([space], noise(2800)),
        ([space, *(noise(8) for _ in range(400))], "k"),
        ([space, noise(1500)], noise(1500)),
    ):
        answer = await http.put("/store/items", json={"namespace": namespace, "key": key, "value": {}})
        assert answer.status_code == 422
        assert "2000 bytes" in answer.json()["detail"]
    for part in ("prefix", "suffix"):
        listed = await http.post("/store/namespaces", json={part: [space, "x" * 100_000]})
        assert listed.status_code == 422
        assert "2000 bytes" in listed.json()["detail"]


async def test_what_an_index_has_no_room_for_is_no_outage(semantic: Stack, space: str) -> None:
    """Vectors are found by the path to what they are of, too."""
    async with httpx.AsyncClient(base_url=semantic.url) as http:
        path = noise(3000)
        item = {"namespace": [space], "key": "k", "value": {path: "text"}, "index": [path]}
        answer = await http.put("/store/items", json=item)
    assert (answer.status_code, answer.json()) == (422, {"detail": "Too large to be stored"})


async def test_namespaces_are_listed_by_prefix_suffix_and_depth(client: LangGraphClient, space: str) -> None:
    for path in (["a", "x", "notes"], ["a", "y", "notes"], ["b", "x", "tasks"], ["c%d"]):
        await client.store.put_item([space, *path], key="k", value={})

    async def listed(**kwargs: Any) -> list[list[str]]:
        found: Any = await client.store.list_namespaces(**kwargs)
        return [path[1:] for path in found["namespaces"]]

    everything = [["a", "x", "notes"], ["a", "y", "notes"], ["b", "x", "tasks"], ["c%d"]]
    assert await listed(prefix=[space]) == everything
    assert await listed(prefix=[space, "a"]) == everything[:2]
    assert await listed(prefix=[space, "*", "x"]) == [everything[0], everything[2]]
    assert await listed(prefix=[space], suffix=["notes"]) == everything[:2]
    assert await listed(prefix=[space], suffix=["x", "*"]) == [everything[0], everything[2]]
    assert await listed(prefix=[space], max_depth=2) == [["a"], ["b"], ["c%d"]]
    assert await listed(prefix=[space], limit=2, offset=1) == everything[1:3]
    assert await listed(prefix=[space[:-1]]) == []


async def test_an_item_is_gone_when_its_time_is_over(client: LangGraphClient, database: str, space: str) -> None:
    short: Any = SECOND
    await client.store.put_item([space], key="short", value={}, ttl=short)
    await client.store.put_item([space], key="long", value={}, ttl=60)
    assert await keys(client, space) == ["long", "short"]

    async def gone() -> bool:
        item: Any = await client.store.get_item([space], key="short", refresh_ttl=False)
        return item is None

    await eventually(gone, what="the item is gone")
    assert await keys(client, space) == ["long"]
    # Not deleted yet: nothing has swept.
    with psycopg.connect(database) as conn:
        assert conn.execute("SELECT count(*) FROM store WHERE prefix = %s", (space,)).fetchall() == [(2,)]


async def test_reading_an_item_gives_it_its_time_again_unless_told_not_to(
    client: LangGraphClient, database: str, space: str
) -> None:
    half: Any = 0.5
    await client.store.put_item([space], key="k", value={}, ttl=half)

    async def left() -> float:
        async with await psycopg.AsyncConnection.connect(database) as conn:
            query = "SELECT extract(epoch FROM expires_at - updated_at)::float8 FROM store WHERE prefix = %s"
            return (await (await conn.execute(query, (space,))).fetchall())[0][0]

    first = await left()
    assert first == pytest.approx(30)
    await client.store.get_item([space], key="k", refresh_ttl=False)
    await client.store.search_items([space], refresh_ttl=False)
    assert await left() == first
    await client.store.get_item([space], key="k")
    second = await left()
    assert 30 < second < 60
    await client.store.search_items([space], refresh_ttl=True)
    assert await left() > second


async def test_an_item_that_is_put_again_without_a_time_stays(client: LangGraphClient, space: str) -> None:
    short: Any = SECOND
    await client.store.put_item([space], key="old", value={}, ttl=short)
    await client.store.put_item([space], key="kept", value={}, ttl=short)
    await client.store.put_item([space], key="kept", value={})

    async def gone() -> bool:
        return await keys(client, space, refresh_ttl=False) == ["kept"]

    await eventually(gone, what="only one is gone")


async def test_requests_at_once_do_not_mix(client: LangGraphClient, space: str) -> None:
    async def one(number: int) -> Any:
        await client.store.put_item([space, str(number)], key="k", value={"n": number})
        return (await client.store.get_item([space, str(number)], key="k"))["value"]["n"]

    assert await asyncio.gather(*(one(number) for number in range(50))) == list(range(50))


async def test_items_are_found_by_what_they_mean(searcher: LangGraphClient, space: str) -> None:
    texts = {"cat": "a cat and a dog", "car": "a car and a bus", "both": "a dog on a train"}
    for key, text in texts.items():
        await searcher.store.put_item([space], key=key, value={"text": text})
    await searcher.store.put_item([space], key="hidden", value={"text": "a horse"}, index=False)
    found: Any = (await searcher.store.search_items([space], query="which dog?"))["items"]
    assert [item["key"] for item in found] == ["cat", "both", "car"]
    scores = [item["score"] for item in found]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.9 > scores[2]
    assert await keys(searcher, space, query="a bus", limit=1) == ["car"]
    assert await keys(searcher, space, query="a bus", limit=1, offset=2) == ["cat"]
    assert await keys(searcher, space, query="a bus", filter={"text": texts["cat"]}) == ["cat"]
    assert await keys(searcher, space) == ["hidden", "both", "car", "cat"]


async def test_graphs_search_the_same_index(searcher: LangGraphClient, thread_id: str, space: str) -> None:
    keep = {"cat": {"text": "a cat", "n": 9}, "car": {"text": "a car", "n": 10}}
    values: Any = await searcher.runs.wait(
        thread_id, "memory", input={"label": space, "keep": keep, "query": "a train"}, if_not_exists="create"
    )
    assert values["found"] == ["car", "cat"]
    assert await keys(searcher, "memory", space, query="a dog") == ["cat", "car"]
    values = await searcher.runs.wait(thread_id, "memory", input={"filter": {"n": {"$lt": 10}}, "query": "a train"})
    assert values["found"] == ["cat"]


async def test_the_default_ttl_is_that_of_langgraph_json(
    searcher: LangGraphClient, semantic: Stack, space: str
) -> None:
    await searcher.store.put_item([space], key="k", value={})
    with psycopg.connect(semantic.environment["DATABASE_URL"]) as conn:
        query = "SELECT ttl_minutes FROM store WHERE prefix = %s"
        assert conn.execute(query, (space,)).fetchall() == [(60,)]


async def test_items_whose_time_is_over_are_deleted(searcher: LangGraphClient, semantic: Stack, space: str) -> None:
    short: Any = SECOND
    await searcher.store.put_item([space], key="k", value={"text": "a cat"}, ttl=short)

    async def swept() -> bool:
        async with await psycopg.AsyncConnection.connect(semantic.environment["DATABASE_URL"]) as conn:
            query = "SELECT (SELECT count(*) FROM store WHERE prefix = %(p)s) + (SELECT count(*) FROM store_vectors "
            rows = await (await conn.execute(query + "WHERE prefix = %(p)s)", {"p": space})).fetchall()
            return rows == [(0,)]

    await eventually(swept, what="the item and its vector are deleted")


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ("x", "store must be an object"),
        ({"index": {}}, "store.index needs"),
        ({"index": {"dims": 0, "embed": "./memory.py:embed"}}, "store.index needs"),
        ({"index": {"dims": 3, "embed": "./memory.py:embed", "fields": "text"}}, "store.index.fields"),
        ({"index": {"dims": 3, "embed": "./memory.py:nothing"}}, "no variable 'nothing'"),
        ({"index": {"dims": 3, "embed": "./gone.py:embed"}}, "failed to import"),
        ({"index": {"dims": 3, "embed": "./memory.py:ANIMALS"}}, "not a function"),
        ({"index": {"dims": 3, "embed": "nobody:some-model"}}, "cannot be loaded"),
        ({"ttl": {"default_ttl": -1}}, "store.ttl.default_ttl"),
    ],
)
def test_a_store_that_cannot_be_is_named(store: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        store_config(Graphs({}, parse({"store": store}), GRAPHS.parent))


async def test_an_index_of_another_length_is_refused(semantic: Stack) -> None:
    url = semantic.environment["DATABASE_URL"]
    config = store_config(Graphs.load(SEMANTIC))
    assert config.index is not None
    await asyncio.to_thread(prepare_index, url, config.index)
    with pytest.raises(ConfigError, match=r"store.index.dims is 4, but the database holds vectors of 3"):
        await asyncio.to_thread(prepare_index, url, replace(config.index, dims=4))
