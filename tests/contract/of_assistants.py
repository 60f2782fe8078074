"""What `client.assistants` promises."""

from typing import Any
from uuid import uuid4

import pytest
from langgraph_sdk.errors import ConflictError, NotFoundError

from tests.contract.calling import Caller

GRAPH = "agent"


async def made(call: Caller, **kwargs: Any) -> Any:
    """Create an assistant that no other test finds."""
    return await call("assistants.create", GRAPH, metadata={"of": str(uuid4())}, **kwargs)


async def create(call: Caller) -> None:
    """Every field is kept; an id is taken once."""
    own = str(uuid4())
    fields: Any = {"name": "Ann", "description": "Helps", "metadata": {"team": "a"}}
    first = await call("assistants.create", GRAPH, {"tags": ["t"], "recursion_limit": 7}, assistant_id=own, **fields)
    assert first["config"]["tags"] == ["t"]
    assert {key: first[key] for key in fields} == fields
    assert (first["assistant_id"], first["graph_id"], first["version"]) == (own, GRAPH, 1)
    with pytest.raises(ConflictError):
        await call("assistants.create", GRAPH, assistant_id=own)
    again = await call("assistants.create", GRAPH, assistant_id=own, if_exists="do_nothing", context={"x": 1})
    assert again == first


async def get(call: Caller) -> None:
    """What was created is read again."""
    assistant = await made(call)
    assert await call("assistants.get", assistant["assistant_id"]) == assistant


async def update(call: Caller) -> None:
    """Each update is a version; metadata are merged, config and context replaced."""
    assistant = await made(call, config={"tags": ["old"]})
    changed = await call(
        "assistants.update",
        assistant["assistant_id"],
        graph_id="five",
        config={"recursion_limit": 9},
        metadata={"new": 1},
        name="Bob",
        description="Changed",
    )
    assert (changed["graph_id"], changed["name"], changed["description"], changed["version"]) == (
        "five",
        "Bob",
        "Changed",
        2,
    )
    assert changed["config"]["recursion_limit"] == 9
    assert "tags" not in changed["config"]
    assert changed["metadata"] == {**assistant["metadata"], "new": 1}
    changed = await call("assistants.update", assistant["assistant_id"], context={"a": 1})
    assert (changed["context"], changed["config"]["configurable"]) == ({"a": 1}, {"a": 1})


async def delete(call: Caller) -> None:
    """An assistant goes, with its threads if asked."""
    kept, gone = await made(call), await made(call)
    threads = {
        each["assistant_id"]: (await call("threads.create", metadata={"assistant_id": each["assistant_id"]}))[
            "thread_id"
        ]
        for each in (kept, gone)
    }
    await call("assistants.delete", kept["assistant_id"])
    await call("assistants.delete", gone["assistant_id"], delete_threads=True)
    for each in (kept, gone):
        with pytest.raises(NotFoundError):
            await call("assistants.get", each["assistant_id"])
    assert await call("threads.get", threads[kept["assistant_id"]])
    with pytest.raises(NotFoundError):
        await call("threads.get", threads[gone["assistant_id"]])


async def search(call: Caller) -> None:
    """Filters, order, pages, selections and both forms of the answer."""
    mark = str(uuid4())
    for name in ("alpha", "beta", "alphabet"):
        await call("assistants.create", GRAPH, metadata={"mark": mark}, name=name)
    asked: dict[str, Any] = {"metadata": {"mark": mark}, "graph_id": GRAPH, "name": "ALPHA", "sort_by": "name"}
    found = await call("assistants.search", **asked, sort_order="asc", select=["name"])
    assert found == [{"name": "alpha"}, {"name": "alphabet"}]
    page = await call("assistants.search", **asked, limit=1, offset=1, response_format="object")
    assert ([each["name"] for each in page["assistants"]], page["next"]) == (["alpha"], None)
    page = await call("assistants.search", **asked, limit=1, response_format="object")
    assert page["next"] == "1"


async def count(call: Caller) -> None:
    """The number of what a search finds."""
    mark = {"mark": str(uuid4())}
    for name in ("one", "two"):
        await call("assistants.create", GRAPH, metadata=mark, name=name)
    assert await call("assistants.count", metadata=mark) == 2
    assert await call("assistants.count", metadata=mark, graph_id=GRAPH, name="two") == 1


async def get_graph(call: Caller) -> None:
    """Nodes and edges, subgraphs opened if asked; a graph's name will do."""
    drawn = await call("assistants.get_graph", GRAPH)
    assert {"a", "b", "c"} < {node["id"] for node in drawn["nodes"]}
    assert {"source": "a", "target": "b"} in drawn["edges"]
    opened = await call("assistants.get_graph", "nested_hitl", xray=1)
    assert "sub:inner_ask" in {node["id"] for node in opened["nodes"]}


async def get_schemas(call: Caller) -> None:
    """The JSON schemas of a graph."""
    assistant = await made(call)
    schemas = await call("assistants.get_schemas", assistant["assistant_id"])
    assert schemas["graph_id"] == GRAPH
    assert "log" in schemas["input_schema"]["properties"]


async def get_subgraphs(call: Caller) -> None:
    """The subgraphs by namespace."""
    [assistant] = await call("assistants.search", graph_id="nested_hitl", metadata={"created_by": "system"})
    found = await call("assistants.get_subgraphs", assistant["assistant_id"], recurse=True)
    assert set(found) == {"sub"}
    assert await call("assistants.get_subgraphs", assistant["assistant_id"], namespace="sub") == found
    assert await call("assistants.get_subgraphs", assistant["assistant_id"], namespace="nobody") == {}


async def get_versions(call: Caller) -> None:
    """The versions, newest first, filtered and by pages."""
    assistant = await made(call)
    for number in (2, 3):
        await call("assistants.update", assistant["assistant_id"], metadata={"number": number})
    versions = await call("assistants.get_versions", assistant["assistant_id"])
    assert [each["version"] for each in versions] == [3, 2, 1]
    asked: Any = {"metadata": {"number": 2}, "limit": 1, "offset": 0}
    assert [each["version"] for each in await call("assistants.get_versions", assistant["assistant_id"], **asked)] == [
        2
    ]


async def set_latest(call: Caller) -> None:
    """An earlier version is the latest again, whole."""
    assistant = await made(call, context={"x": 1}, name="first")
    await call("assistants.update", assistant["assistant_id"], context={"x": 2}, graph_id="five", name="second")
    back = await call("assistants.set_latest", assistant["assistant_id"], 1)
    same = ("context", "config", "graph_id", "name", "metadata", "version")
    assert {key: back[key] for key in same} == {key: assistant[key] for key in same}
