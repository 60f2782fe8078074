"""`client.threads`, their states aside."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
import psycopg
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import BadRequestError, ConflictError, NotFoundError, UnprocessableEntityError

from tests.eventually import eventually
from tests.runs.support import joining
from tests.stack import Stack


def slow(tmp_path: Path, node: str = "b") -> Any:
    """Build an input whose node says when it has begun, and goes on when it is let."""
    return {"log": ["in"], "do": {node: {"trace": str(tmp_path / "begun"), "until": str(tmp_path / "go")}}}


async def begun(tmp_path: Path) -> None:
    """Wait until that node has begun."""

    async def check() -> bool:
        return (tmp_path / "begun").exists()

    await eventually(check)


async def test_a_new_thread_is_idle_and_empty(client: LangGraphClient) -> None:
    created: dict[str, Any] = dict(await client.threads.create(metadata={"a": 1}))
    assert UUID(created["thread_id"]).version == 7
    assert created["created_at"] == created["updated_at"] == created["state_updated_at"]
    assert created["created_at"].endswith("+00:00")
    assert {key: created[key] for key in ("metadata", "status", "config", "values")} == {
        "metadata": {"a": 1},
        "status": "idle",
        "config": {},
        "values": None,
    }
    assert "interrupts" not in created
    assert await client.threads.get(created["thread_id"]) == created
    assert await client.threads.get(created["thread_id"], include=["ttl"]) == created


async def test_a_taken_id_is_a_conflict_or_does_nothing(client: LangGraphClient, thread_id: str) -> None:
    first = await client.threads.create(thread_id=thread_id, metadata={"a": 1}, ttl=5)
    with pytest.raises(ConflictError):
        await client.threads.create(thread_id=thread_id)
    again = await client.threads.create(thread_id=thread_id, metadata={"b": 1}, if_exists="do_nothing")
    assert again == first


async def test_supersteps_build_a_history(client: LangGraphClient) -> None:
    created = await client.threads.create(
        graph_id="agent",
        supersteps=[
            {"updates": [{"values": {"log": ["in"]}, "as_node": "__start__"}]},
            {"updates": [{"values": {"log": ["x"]}, "as_node": "a"}]},
            {"updates": [{"values": None, "command": {"update": {"log": ["y"]}}, "as_node": "b"}]},
        ],
    )
    assert created["values"] == {"log": ["in", "x", "y"]}
    assert created["status"] == "interrupted"
    history = await client.threads.get_history(created["thread_id"])
    assert [state["next"] for state in history] == [["c"], ["b"], ["a"]]
    assert await client.runs.wait(created["thread_id"], "agent") == {"log": ["in", "x", "y", "c"]}


async def test_a_thread_that_is_deleted_as_it_is_made_again_has_its_history_or_is_the_old_one(
    server: Stack, database: str, thread_id: str
) -> None:
    body = {
        "thread_id": thread_id,
        "if_exists": "do_nothing",
        "metadata": {"graph_id": "agent"},
        "supersteps": [{"updates": [{"values": {"log": ["in"]}, "as_node": "__start__"}]}],
    }
    async with (
        httpx.AsyncClient(base_url=server.url) as http,
        await psycopg.AsyncConnection.connect(database) as conn,
    ):
        old = (await http.post("/threads", json={"thread_id": thread_id})).json()
        await conn.execute("DELETE FROM thread WHERE thread_id = %s", (thread_id,))
        asked = asyncio.create_task(http.post("/threads", json=body))

        async def decided() -> bool:
            async with await psycopg.AsyncConnection.connect(database) as other:
                found = await other.execute(
                    "SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() <> pid AND transactionid IN "
                    "(SELECT transactionid FROM pg_locks WHERE pid = %s)",
                    (conn.info.backend_pid,),
                )
                return asked.done() or await found.fetchone() is not None

        await eventually(decided)
        await conn.commit()
        made = (await asked).json()
    assert made["created_at"] == old["created_at"] or made["values"] == {"log": ["in"]}


@pytest.mark.parametrize(
    ("metadata", "updates"),
    [
        ({"graph_id": "agent"}, [{"values": {"log": ["x"]}, "as_node": "nobody"}]),
        ({"graph_id": "agent"}, [{"values": ["x"], "as_node": "a"}]),
        ({"graph_id": "failing"}, [{"values": {"log": ["lost"]}, "as_node": "first"}]),
        ({}, [{"values": {"log": ["x"]}, "as_node": "a"}]),
    ],
)
async def test_supersteps_that_fail_leave_no_thread(
    client: LangGraphClient, thread_id: str, metadata: dict[str, Any], updates: list[Any]
) -> None:
    with pytest.raises(BadRequestError) as refused:
        await client.threads.create(thread_id=thread_id, metadata=metadata, supersteps=[{"updates": updates}])
    assert "swordfish" not in str(refused.value)
    with pytest.raises(NotFoundError):
        await client.threads.get(thread_id)


async def test_a_patch_merges_metadata(client: LangGraphClient) -> None:
    created: Any = await client.threads.create(metadata={"a": {"b": 1}, "c": 1})
    patched: Any = await client.threads.update(created["thread_id"], metadata={"a": {"d": 2}, "e": None}, ttl=5)
    assert patched["metadata"] == {"a": {"d": 2}, "c": 1, "e": None}
    assert patched["updated_at"] > created["updated_at"]
    assert patched["state_updated_at"] == created["state_updated_at"]


async def test_a_patch_may_ask_for_no_answer(server: Stack, client: LangGraphClient) -> None:
    thread_id = (await client.threads.create())["thread_id"]
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.patch(
            f"/threads/{thread_id}", json={"metadata": {"a": 1}}, headers={"prefer": "return=minimal"}
        )
    assert (answer.status_code, answer.content) == (204, b"")
    await client.threads.update(thread_id, metadata={"b": 2}, return_minimal=True)
    assert (await client.threads.get(thread_id))["metadata"] == {"a": 1, "b": 2}


async def test_a_deleted_thread_is_gone_with_all_it_had(client: LangGraphClient) -> None:
    thread_id = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread_id, "agent", input={"log": []})
    await client.runs.join(thread_id, run["run_id"])
    await client.threads.delete(thread_id)
    for gone in (
        client.threads.get(thread_id),
        client.threads.get_state(thread_id),
        client.threads.get_history(thread_id),
        client.runs.get(thread_id, run["run_id"]),
        client.threads.delete(thread_id),
        client.threads.update(thread_id, metadata={}),
    ):
        with pytest.raises(NotFoundError):
            await gone
    await client.threads.create(thread_id=thread_id, graph_id="agent")
    assert await client.threads.get_history(thread_id) == []


async def test_deleting_a_thread_stops_what_runs(client: LangGraphClient, server: Stack, tmp_path: Path) -> None:
    thread_id = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread_id, "agent", input=slow(tmp_path))
    await begun(tmp_path)
    async with joining(server.url, thread_id, run["run_id"]) as joined:
        await client.threads.delete(thread_id)
        assert orjson.loads(await joined.aread()) == {"log": ["in", "a"], "do": slow(tmp_path)["do"]}
    # The id can be used again, and what still ran leaves no trace on it.
    await client.threads.create(thread_id=thread_id)
    (tmp_path / "go").touch()
    done: Any = await client.runs.wait(thread_id, "agent", input={"log": ["new"]})
    assert done["log"] == ["new", "a", "b", "c"]
    assert len(await client.threads.get_history(thread_id)) == 5


async def test_a_search_filters(client: LangGraphClient) -> None:
    tag = uuid4().hex
    plain = (await client.threads.create(metadata={"tag": tag, "at": {"n": 1, "m": 2}}))["thread_id"]
    asking = (await client.threads.create(metadata={"tag": tag}, graph_id="hitl"))["thread_id"]
    await client.runs.wait(asking, "hitl", input={"log": [tag]})

    async def ids(**filters: Any) -> list[str]:
        found = await client.threads.search(**filters)
        assert await client.threads.count(**{k: v for k, v in filters.items() if k != "ids"}) >= len(found)
        return [thread["thread_id"] for thread in found]

    assert await ids(metadata={"tag": tag}) == [asking, plain]
    assert await ids(metadata={"tag": tag, "at": {"n": 1}}) == [plain]
    assert await ids(values={"log": [tag]}) == [asking]
    assert await ids(status="interrupted", metadata={"tag": tag}) == [asking]
    assert await ids(ids=[plain, str(uuid4())]) == [plain]
    assert await client.threads.count(metadata={"tag": tag}) == 2
    assert await client.threads.count(metadata={"tag": tag}, status="idle") == 1


async def test_a_search_sorts_selects_and_extracts(client: LangGraphClient) -> None:
    tag = uuid4().hex
    for name in ("a", "b", "c"):
        await client.threads.create(
            metadata={"tag": tag, "name": name},
            graph_id="agent",
            supersteps=[{"updates": [{"values": {"log": [name, f"{name}!"]}, "as_node": "a"}]}],
        )
    found: Any = await client.threads.search(
        metadata={"tag": tag},
        sort_by="created_at",
        sort_order="asc",
        select=["status", "metadata"],
        extract={"last": "values.log[-1]", "name": "metadata.name", "none": "values.log[7]", "no": "values.x.y"},
    )
    assert [list(thread) for thread in found] == [["status", "metadata", "extracted"]] * 3
    assert [thread["extracted"] for thread in found] == [
        {"last": f"{name}!", "name": name, "none": None, "no": None} for name in ("a", "b", "c")
    ]
    assert all("values" in thread for thread in await client.threads.search(metadata={"tag": tag}, select=["values"]))
    for wrong in ({"x": "error.message"}, {"1x": "values"}, {"x": "values[a]"}, {f"x{n}": "values" for n in range(11)}):
        with pytest.raises(UnprocessableEntityError):
            await client.threads.search(extract=wrong)


async def test_pages_say_the_true_total(server: Stack, client: LangGraphClient) -> None:
    tag = uuid4().hex
    for _ in range(3):
        await client.threads.create(metadata={"tag": tag})
    async with httpx.AsyncClient(base_url=server.url) as http:
        seen: list[str] = []
        offset: str | None = "0"
        while offset is not None:
            body = {"metadata": {"tag": tag}, "limit": 2, "offset": int(offset)}
            answer = await http.post("/threads/search", json=body)
            assert answer.headers["x-pagination-total"] == "3"
            seen += [thread["thread_id"] for thread in answer.json()]
            offset = answer.headers.get("x-pagination-next")
    assert len(set(seen)) == len(seen) == 3


async def test_a_copy_goes_its_own_way(client: LangGraphClient) -> None:
    thread_id = (await client.threads.create(metadata={"a": 1}))["thread_id"]
    await client.runs.wait(thread_id, "hitl", input={"log": ["in"]})
    source = await client.threads.get(thread_id)
    copied: Any = await client.threads.copy(thread_id)
    assert copied["thread_id"] != thread_id
    for field in ("metadata", "status", "values", "interrupts"):
        assert copied[field] == source[field]
    assert copied["status"] == "interrupted"
    assert await client.threads.get(copied["thread_id"]) == copied
    assert await client.runs.list(copied["thread_id"]) == []
    assert len(await client.threads.get_history(copied["thread_id"])) == 2
    done = await client.runs.wait(copied["thread_id"], "hitl", command={"resume": "yes"})
    assert done == {"log": ["in", "ask=yes", "after"]}
    assert await client.threads.get(thread_id) == source


async def test_a_copy_of_a_busy_thread_shows_what_was_copied(client: LangGraphClient, tmp_path: Path) -> None:
    thread_id = (await client.threads.create())["thread_id"]
    await client.runs.create(thread_id, "agent", input=slow(tmp_path))
    await begun(tmp_path)
    copied: Any = await client.threads.copy(thread_id)
    (tmp_path / "go").touch()
    assert (copied["status"], copied["values"]["log"]) == ("interrupted", ["in", "a"])


async def test_a_copy_of_nothing_is_a_conflict(client: LangGraphClient, thread_id: str) -> None:
    with pytest.raises(ConflictError):
        await client.threads.copy(thread_id)


async def test_prune_deletes_what_is_there(client: LangGraphClient) -> None:
    threads = [(await client.threads.create())["thread_id"] for _ in range(3)]
    pruned = await client.threads.prune([*threads[:2], threads[0], str(uuid4())])
    assert pruned["pruned_count"] == 2
    assert [thread["thread_id"] for thread in await client.threads.search(ids=threads)] == threads[2:]


async def test_prune_keeps_the_latest_checkpoint(client: LangGraphClient, tmp_path: Path) -> None:
    thread_id = (await client.threads.create())["thread_id"]
    busy = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread_id, "hitl", input={"log": ["in"]})
    running = await client.runs.create(busy, "agent", input=slow(tmp_path))
    await begun(tmp_path)
    before = await client.threads.get(thread_id)
    pruned = await client.threads.prune([thread_id, busy, str(uuid4())], strategy="keep_latest")
    assert pruned["pruned_count"] == 1
    (tmp_path / "go").touch()
    assert len(await client.threads.get_history(thread_id)) == 1
    assert await client.threads.get(thread_id) == before
    done = await client.runs.wait(thread_id, "hitl", command={"resume": "yes"})
    assert done == {"log": ["in", "ask=yes", "after"]}
    await client.runs.join(busy, running["run_id"])
    assert len(await client.threads.get_history(busy)) == 5


async def test_the_thread_of_an_ended_stateless_run_is_invisible(client: LangGraphClient, tmp_path: Path) -> None:
    run = await client.runs.create(None, "agent", input=slow(tmp_path))
    thread_id = run["thread_id"]
    await begun(tmp_path)
    (tmp_path / "go").touch()
    await client.runs.join(thread_id, run["run_id"])
    assert await client.threads.search(ids=[thread_id]) == []
    assert (await client.threads.prune([thread_id]))["pruned_count"] == 0
    for gone in (
        client.threads.get(thread_id),
        client.threads.get_state(thread_id),
        client.threads.get_history(thread_id),
        client.threads.update_state(thread_id, {"log": []}),
        client.threads.update(thread_id, metadata={}),
        client.threads.delete(thread_id),
    ):
        with pytest.raises(NotFoundError):
            await gone
    with pytest.raises(ConflictError):
        await client.threads.copy(thread_id)


async def test_storage_tells_how_much_room_a_thread_takes(
    server: Stack, client: LangGraphClient, thread_id: str
) -> None:
    async with httpx.AsyncClient(base_url=server.url) as http:
        assert (await http.get(f"/threads/{thread_id}/storage")).status_code == 404
        await client.threads.create(thread_id=thread_id)
        empty = (await http.get(f"/threads/{thread_id}/storage")).json()
        assert (empty["tables"]["thread"]["rows"], empty["channels"]) == (1, {})
        await client.runs.wait(thread_id, "agent", input={"log": ["x" * 5000]})
        full = (await http.get(f"/threads/{thread_id}/storage")).json()
    assert full["channels"]["log"]["bytes"] > 5000
    assert full["tables"]["run"]["rows"] == 1
    assert full["tables"]["checkpoints"]["rows"] == len(await client.threads.get_history(thread_id, limit=100))
    assert full["total_bytes"] == sum(table["bytes"] for table in full["tables"].values()) > empty["total_bytes"]


async def test_patching_a_state_merges_metadata_as_patching_the_thread_does(
    server: Stack, client: LangGraphClient
) -> None:
    thread = await client.threads.create(metadata={"a": 1})
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.patch(f"/threads/{thread['thread_id']}/state", json={"metadata": {"b": 2}})
    assert answer.json()["metadata"] == {"a": 1, "b": 2}
    assert (await client.threads.get(thread["thread_id"]))["metadata"] == {"a": 1, "b": 2}
