"""What handlers say and change is done, on a server whose handlers do what the token says."""

import json
from typing import Any, cast
from uuid import uuid4

import httpx
import psycopg
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError, NotFoundError, PermissionDeniedError

from tests.api.auth import client_of, script
from tests.stack import Stack


def whoever(server: Stack, **on: Any) -> LangGraphClient:
    """Build the client of a user to whom handlers do something; underscores stand for the dots."""
    return client_of(server, script(on={name.replace("_", ".", 1): rule for name, rule in on.items()}))


async def post(server: Stack, path: str, body: Any, **said: Any) -> httpx.Response:
    """Send a request with a script."""
    async with httpx.AsyncClient(base_url=server.url, headers=script(**said)) as http:
        return await http.post(path, json=body)


@pytest.mark.parametrize("status", [302, 400, 401, 402, 403, 404, 409, 418, 422, 429, 500, 503])
async def test_authentication_refuses_in_its_own_words(scripted: Stack, status: int) -> None:
    how = {"status": status, "detail": "Pay first", "headers": {"Retry-After": "7", "X-Why": "money"}}
    answer = await post(scripted, "/threads", {}, **{"raise": how})
    assert (answer.status_code, answer.json()) == (status, {"detail": "Pay first"})
    assert (answer.headers["retry-after"], answer.headers["x-why"]) == ("7", "money")


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 418, 422, 429, 500, 503])
async def test_a_handler_refuses_in_its_own_words(scripted: Stack, status: int) -> None:
    how = {"status": status, "detail": "Pay first", "headers": {"Retry-After": "7"}}
    answer = await post(scripted, "/threads", {}, on={"threads.create": {"raise": how}})
    assert (answer.status_code, answer.json()) == (status, {"detail": "Pay first"})
    assert answer.headers["retry-after"] == "7"


async def test_a_refusal_without_words_has_those_of_its_status(scripted: Stack) -> None:
    answer = await post(scripted, "/threads", {}, **{"raise": {"status": 403}})
    assert (answer.status_code, answer.json()) == (403, {"detail": "Forbidden"})


async def test_a_failure_says_nothing_but_is_logged(scripted: Stack) -> None:
    secrets = [f"password {uuid4()}" for _ in range(3)]
    answers = [
        await post(scripted, "/threads", {}, **{"raise": {"error": secrets[0]}}),
        await post(scripted, "/threads", {}, **{"raise": {"assertion": secrets[1]}}),
        await post(scripted, "/threads", {}, on={"threads.create": {"raise": {"error": secrets[2]}}}),
        await post(scripted, "/threads/search", {}, on={"threads.search": {"return": {"owner": {"$like": "%"}}}}),
        await post(scripted, "/threads/search", {}, user={"name": "has no identity"}),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()) == (500, {"detail": "Internal Server Error"})
        assert answer.headers["content-type"] == "application/json"
    for secret in secrets:
        assert secret in scripted.log("api")


async def test_an_assertion_forbids(scripted: Stack) -> None:
    answer = await post(scripted, "/threads", {}, on={"threads.create": {"raise": {"assertion": "not you"}}})
    assert (answer.status_code, answer.json()) == (403, {"detail": "not you"})
    answer = await post(scripted, "/threads", {}, on={"threads.create": {"raise": {"assertion": ""}}})
    assert (answer.status_code, answer.json()) == (403, {"detail": "Forbidden"})


async def test_a_refused_request_does_nothing(scripted: Stack) -> None:
    async with whoever(scripted) as all_may, whoever(scripted, **{"*": {"return": False}}) as none_may:
        thread_id = (await all_may.threads.create())["thread_id"]
        for call in (
            none_may.threads.delete(thread_id),
            none_may.threads.update(thread_id, metadata={"x": 1}),
            none_may.runs.create(thread_id, "agent", input={"log": []}),
            none_may.runs.create(str(uuid4()), "agent", input={"log": []}, if_not_exists="create"),
            none_may.store.put_item(["scripted"], key=thread_id, value={}),
        ):
            with pytest.raises(PermissionDeniedError):
                await cast(Any, call)
        thread = await all_may.threads.get(thread_id)
        assert (thread["metadata"], thread["status"]) == ({}, "idle")
        assert await all_may.store.get_item(["scripted"], key=thread_id) is None


async def test_the_handler_of_one_action_leaves_the_others(scripted: Stack) -> None:
    async with whoever(scripted, threads_delete={"return": False}) as user:
        thread_id = (await user.threads.create())["thread_id"]
        with pytest.raises(PermissionDeniedError):
            await user.threads.delete(thread_id)
        with pytest.raises(PermissionDeniedError):
            await user.threads.prune([thread_id])
        assert await user.threads.get(thread_id)


@pytest.mark.parametrize(
    ("mine", "metadata", "others"),
    [
        ({"owner": "x"}, {"owner": "x"}, {"owner": "y"}),
        ({"owner": {"$eq": "x"}}, {"owner": "x"}, {"owner": ["x"]}),
        ({"members": {"$contains": "x"}}, {"members": ["x", "y"]}, {"members": ["y"]}),
        ({"members": {"$contains": ["x", "y"]}}, {"members": ["y", "z", "x"]}, {"members": ["x", "z"]}),
        ({"$or": [{"owner": "x"}, {"team": "t"}]}, {"team": "t"}, {"team": "u", "owner": "y"}),
        ({"$and": [{"owner": "x"}, {"team": "t"}]}, {"owner": "x", "team": "t"}, {"owner": "x"}),
        (
            {"owner": "x", "$or": [{"team": "t"}, {"$and": [{"a": 1}, {"b": True}]}]},
            {"owner": "x", "a": 1, "b": True},
            {"owner": "x", "a": 1, "b": 1},
        ),
    ],
    ids=str,
)
async def test_every_filter_is_enforced(scripted: Stack, mine: Any, metadata: Any, others: Any) -> None:
    tag = uuid4().hex
    async with whoever(scripted) as maker, whoever(scripted, **{"*": {"return": mine}}) as user:
        seen = (await maker.threads.create(metadata={**metadata, "tag": tag}))["thread_id"]
        hidden = (await maker.threads.create(metadata={**others, "tag": tag}))["thread_id"]
        assert [t["thread_id"] for t in await user.threads.search(metadata={"tag": tag})] == [seen]
        assert await user.threads.count(metadata={"tag": tag}) == 1
        assert await maker.threads.count(metadata={"tag": tag}) == 2
        assert (await user.threads.get(seen))["thread_id"] == seen
        with pytest.raises(NotFoundError):
            await user.threads.get(hidden)
        run = await user.runs.create(seen, "agent", input={"log": []})
        await user.runs.join(seen, run["run_id"])
        with pytest.raises(NotFoundError):
            await user.runs.create(hidden, "agent", input={"log": []})
        with pytest.raises(NotFoundError):
            await user.threads.delete(hidden)
        await user.threads.delete(seen)
        assert await maker.threads.get(hidden)


async def test_pages_are_of_what_is_shown(scripted: Stack) -> None:
    tag = uuid4().hex
    async with whoever(scripted) as maker:
        for number in range(7):
            await maker.threads.create(metadata={"tag": tag, "owner": "x" if number % 2 else "y"})
    body = {"metadata": {"tag": tag}, "limit": 2}
    on = {"threads.search": {"return": {"owner": "y"}}}
    first = await post(scripted, "/threads/search", body, on=on)
    second = await post(scripted, "/threads/search", {**body, "offset": 2}, on=on)
    assert [len(first.json()), len(second.json())] == [2, 2]
    assert (first.headers["x-pagination-total"], first.headers["x-pagination-next"]) == ("4", "2")
    assert "x-pagination-next" not in second.headers


async def test_a_run_without_a_thread_needs_no_stamp(scripted: Stack) -> None:
    mine = {"owner": "x"}
    rules: Any = {"threads_create_run": {"return": mine}, "threads_read": {"return": mine}}
    async with whoever(scripted, **rules) as user, whoever(scripted, threads_read={"return": {"owner": "y"}}) as other:
        assert await user.runs.wait(None, "agent", input={"log": []}) == {"log": ["a", "b", "c"]}
        events = [part.event async for part in user.runs.stream(None, "agent", input={"log": []})]
        assert events[-1] == "end"
        # A thread that is made for a request belongs to its sender, who finds it again.
        kept = await user.runs.create(None, "agent", input={"log": []}, on_completion="keep")
        assert await user.runs.join(kept["thread_id"], kept["run_id"]) == {"log": ["a", "b", "c"]}
        planted: Any = {"metadata": {"owner": "y"}}
        made = await user.runs.create(str(uuid4()), "agent", input={"log": []}, if_not_exists="create", config=planted)
        assert await user.runs.join(made["thread_id"], made["run_id"]) == {"log": ["a", "b", "c"]}
        for run in (kept, made):
            with pytest.raises(NotFoundError):
                await other.runs.get(run["thread_id"], run["run_id"])
        with pytest.raises(NotFoundError):
            await user.runs.create((await other.threads.create())["thread_id"], "agent", input={"log": []})


async def test_what_a_handler_writes_into_a_value_is_what_is_done(scripted: Stack) -> None:
    tag = uuid4().hex
    stamp = {"stamp": {"tag": tag}}
    async with whoever(scripted, **{"*": stamp}) as user, whoever(scripted) as reader:
        thread = await user.threads.create(metadata={"a": 1})
        assert thread["metadata"] == {"a": 1, "tag": tag}
        other = await reader.threads.create()
        # The search is for what has the tag.
        assert [t["thread_id"] for t in await user.threads.search()] == [thread["thread_id"]]
        assert cast(Any, await user.threads.update(other["thread_id"], metadata={}))["metadata"] == {"tag": tag}
        assert await user.threads.count() == 2
        assert cast(Any, await user.threads.copy(other["thread_id"]))["metadata"] == {"tag": tag}
        run = await user.runs.create(str(uuid4()), "agent", input={"log": []}, if_not_exists="create")
        assert cast(Any, run["metadata"])["tag"] == tag
        assert cast(Any, (await reader.threads.get(run["thread_id"]))["metadata"])["tag"] == tag
        assistant = await user.assistants.create("agent", name=tag)
        assert assistant["metadata"] == {"tag": tag}
        assert [a["name"] for a in await user.assistants.search()] == [tag]
        assert await user.assistants.count() == 1


async def test_a_handler_may_change_what_is_stored(scripted: Stack) -> None:
    kwargs = {"input": {"log": ["changed"]}, "command": None, "config": {"configurable": {}}, "stream_mode": ["values"]}
    rules: Any = {
        "assistants_create": {"set": {"name": "named by the handler", "config": {"tags": ["t"]}}},
        "assistants_update": {"set": {"description": "described"}},
        "threads_create_run": {"set": {"multitask_strategy": "reject", "kwargs": {**kwargs, "temporary": False}}},
        "threads_search": {"set": {"status": "busy"}},
    }
    async with whoever(scripted, **rules) as user:
        made = await user.assistants.create("agent", name="mine")
        assert (made["name"], made["config"]) == ("named by the handler", {"tags": ["t"]})
        patched = await user.assistants.update(made["assistant_id"], name="renamed")
        assert (patched["name"], patched["description"]) == ("renamed", "described")
        thread_id = (await user.threads.create())["thread_id"]
        run = await user.runs.create(thread_id, "agent", input={"log": ["mine"]})
        assert run["multitask_strategy"] == "reject"
        assert await user.runs.join(thread_id, run["run_id"]) == {"log": ["changed", "a", "b", "c"]}
        assert await user.threads.search(ids=[thread_id]) == []


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (5, {"strategy": "delete", "ttl": 5.0}),
        ({"ttl": 0.5, "strategy": "keep_latest"}, {"strategy": "keep_latest", "ttl": 0.5}),
        (None, None),
    ],
)
async def test_a_handler_is_told_how_long_a_thread_is_to_live(scripted: Stack, asked: Any, told: Any) -> None:
    answer = await post(scripted, "/threads", {"ttl": asked}, on={"threads.create": {"quote": "ttl"}})
    assert answer.status_code == 418
    assert json.loads(answer.json()["detail"]) == told


async def test_a_handler_decides_how_long_a_thread_lives(scripted: Stack) -> None:
    async with whoever(scripted, threads_create={"set": {"ttl": {"strategy": "delete", "ttl": 7}}}) as user:
        for asked in (None, 9000):
            thread_id = (await user.threads.create(ttl=asked))["thread_id"]
            shown: Any = await user.threads.get(thread_id, include=["ttl"])
            assert (shown["ttl"]["strategy"], shown["ttl"]["ttl_minutes"]) == ("delete", 7)


async def test_a_handler_moves_items(scripted: Stack) -> None:
    space = uuid4().hex
    moved = {"set": {"namespace": [space, "moved"]}}
    async with whoever(scripted, **{"*": moved}) as user, whoever(scripted) as reader:
        await user.store.put_item(["anywhere"], key="k", value={"v": 1})
        item = cast(Any, await reader.store.get_item([space, "moved"], key="k"))
        assert item["value"] == {"v": 1}
        assert await reader.store.get_item(["anywhere"], key="k") is None
        assert cast(Any, await user.store.get_item(["elsewhere"], key="k"))["value"] == {"v": 1}
        assert len((await user.store.search_items(["elsewhere"]))["items"]) == 1
        assert (await user.store.list_namespaces())["namespaces"] == [[space, "moved"]]
        await user.store.delete_item(["elsewhere"], key="k")
        assert await reader.store.get_item([space, "moved"], key="k") is None


async def test_a_namespace_that_cannot_be_stored_is_refused(scripted: Stack) -> None:
    for namespace in (["alice@example.test"], ["a", ""]):
        async with whoever(scripted, **{"*": {"set": {"namespace": namespace}}}) as user:
            with pytest.raises(httpx.HTTPStatusError) as refused:
                await user.store.put_item(["a"], key="k", value={})
            assert refused.value.response.status_code == 422


async def test_a_filter_narrows_a_search_of_items(scripted: Stack) -> None:
    space = uuid4().hex
    async with (
        whoever(scripted) as maker,
        whoever(scripted, store_search={"return": {"$or": [{"owner": "x"}, {"members": {"$contains": "x"}}]}}) as user,
    ):
        await maker.store.put_item([space], key="1", value={"owner": "x", "n": 1})
        await maker.store.put_item([space], key="2", value={"owner": "y", "n": 1})
        await maker.store.put_item([space], key="3", value={"members": ["y", "x"], "n": 2})
        found = await user.store.search_items([space])
        assert {item["key"] for item in found["items"]} == {"1", "3"}
        assert [item["key"] for item in (await user.store.search_items([space], filter={"n": 1}))["items"]] == ["1"]
        assert (await user.store.search_items([space], filter={"": 1}))["items"] == []
        assert len((await maker.store.search_items([space]))["items"]) == 3
        with pytest.raises(httpx.HTTPStatusError) as refused:
            await maker.store.search_items([space], filter={"": {"$only": []}})
        assert refused.value.response.status_code == 400


async def test_an_item_cannot_be_put_in_anothers_name(scripted: Stack) -> None:
    namespace = [uuid4().hex]
    rule = {"stamp": {"owner": "y"}, "return": {"owner": "x"}}
    async with whoever(scripted, store_put=rule) as user, whoever(scripted) as reader:
        with pytest.raises(httpx.HTTPStatusError) as refused:
            await user.store.put_item(namespace, key="k", value={})
        assert refused.value.response.status_code == 403
        assert await reader.store.get_item(namespace, key="k") is None


async def test_an_assistant_is_asked_for_besides_the_run(scripted: Stack) -> None:
    async with whoever(scripted, assistants_read={"return": False}) as user:
        assert await user.runs.wait(None, "agent", input={"log": []}) == {"log": ["a", "b", "c"]}
        made = await user.assistants.create("agent")
        with pytest.raises(PermissionDeniedError):
            await user.runs.create(None, made["assistant_id"], input={"log": []})
    async with whoever(scripted, assistants_read={"return": {"owner": "x"}}) as user:
        with pytest.raises(NotFoundError):
            await user.runs.create(None, made["assistant_id"], input={"log": []})


async def test_threads_go_with_an_assistant_only_where_they_may_be_deleted(scripted: Stack) -> None:
    async with (
        whoever(scripted) as maker,
        whoever(scripted, threads_delete={"return": {"owner": "x"}}) as user,
        whoever(scripted, threads_delete={"return": False}) as nobody,
    ):
        made = await maker.assistants.create("agent")
        assistant_id = made["assistant_id"]
        threads = [
            (await maker.threads.create(metadata={"owner": owner, "assistant_id": assistant_id}))["thread_id"]
            for owner in ("x", "y")
        ]
        with pytest.raises(PermissionDeniedError):
            await nobody.assistants.delete(assistant_id, delete_threads=True)
        assert await maker.assistants.get(assistant_id)
        await user.assistants.delete(assistant_id, delete_threads=True)
        with pytest.raises(NotFoundError):
            await maker.threads.get(threads[0])
        assert await maker.threads.get(threads[1])


async def test_who_may_only_read_cannot_cancel_by_leaving(scripted: Stack) -> None:
    async with whoever(scripted, threads_update={"return": False}) as user:
        run = await user.runs.create(None, "agent", input={"log": []}, on_completion="keep")
        path = f"/threads/{run['thread_id']}/runs/{run['run_id']}"
        assert await user.http.get(f"{path}/join") == {"log": ["a", "b", "c"]}
        for left in ("join", "stream"):
            with pytest.raises(PermissionDeniedError):
                await user.http.get(f"{path}/{left}?cancel_on_disconnect=true")


async def test_an_id_that_is_taken_by_another_is_a_conflict(scripted: Stack) -> None:
    async with whoever(scripted) as maker, whoever(scripted, threads_create={"return": {"owner": "x"}}) as user:
        thread_id = (await maker.threads.create(metadata={"owner": "y"}))["thread_id"]
        for again in ("raise", "do_nothing"):
            with pytest.raises(ConflictError):
                await user.threads.create(thread_id=thread_id, if_exists=cast(Any, again))


ALICE: Any = {"return": {"owner": "x"}}
EITHER: Any = {"return": {"$or": [{"owner": "x"}, {"members": {"$contains": "x"}}]}}
ANOTHERS: Any = {"owner": "y"}


@pytest.mark.parametrize("rule", [ALICE, EITHER], ids=["one owner", "owner or member"])
async def test_nothing_is_made_in_anothers_name(scripted: Stack, rule: Any) -> None:
    async with whoever(scripted, **{"*": rule}) as user, whoever(scripted) as all_seeing:
        tag = {"tag": uuid4().hex}
        with pytest.raises(PermissionDeniedError):
            await user.threads.create(metadata={**ANOTHERS, **tag})
        with pytest.raises(PermissionDeniedError):
            await user.assistants.create("agent", metadata={**ANOTHERS, **tag})
        assert await all_seeing.threads.search(metadata=tag) == []
        assert await all_seeing.assistants.search(metadata=tag) == []


async def test_no_run_or_cron_is_made_in_anothers_name(scripted: Stack) -> None:
    mine: Any = {"return": {"owner": "x"}}
    async with (
        whoever(scripted, threads_create_run=EITHER) as user,
        whoever(scripted, threads_create_run=mine, crons_create=EITHER) as planner,
        whoever(scripted) as all_seeing,
    ):
        thread_id, tag = str(uuid4()), {"tag": uuid4().hex}
        with pytest.raises(PermissionDeniedError):
            await user.runs.create(
                thread_id, "agent", input={"log": []}, if_not_exists="create", metadata={**ANOTHERS, **tag}
            )
        assert await all_seeing.threads.search(ids=[thread_id]) == []
        with pytest.raises(PermissionDeniedError):
            await planner.crons.create("agent", schedule="0 0 1 1 *", input={}, metadata={**ANOTHERS, **tag})
        assert await all_seeing.crons.count(metadata=tag) == 0


@pytest.mark.parametrize("rule", [ALICE, EITHER], ids=["one owner", "owner or member"])
async def test_nothing_is_given_away(scripted: Stack, rule: Any) -> None:
    async with whoever(scripted, **{"*": rule}) as user:
        own = {"owner": "x"}
        thread = await user.threads.create(metadata=own)
        with pytest.raises(PermissionDeniedError):
            await user.threads.update(thread["thread_id"], metadata=ANOTHERS)
        assert cast(Any, await user.threads.get(thread["thread_id"]))["metadata"] == own
        made = await user.assistants.create("agent", metadata=own)
        with pytest.raises(PermissionDeniedError):
            await user.assistants.update(made["assistant_id"], metadata=ANOTHERS)
        assert (await user.assistants.get(made["assistant_id"]))["version"] == 1
        await user.assistants.delete(made["assistant_id"])


async def test_a_handler_gives_the_secret_of_a_runs_webhooks_which_nobody_is_shown(
    scripted: Stack, database: str
) -> None:
    rule: Any = {"set": {"webhook_secret": "tenant-secret"}}
    async with whoever(scripted, threads_create_run=rule) as user:
        thread = await user.threads.create()
        run = await user.runs.create(thread["thread_id"], "agent", input={"log": []}, after_seconds=3600)
        cron = await user.crons.create("agent", schedule="0 0 1 1 *", input={})
        shown = [
            run,
            await user.runs.get(thread["thread_id"], run["run_id"]),
            cron,
            await user.crons.search(limit=1000),
            await user.threads.get(thread["thread_id"]),
        ]
        assert "tenant-secret" not in str(shown)
        with psycopg.connect(database) as conn:
            query = "SELECT kwargs ->> 'webhook_secret' FROM run WHERE run_id = %s"
            assert conn.execute(query, [run["run_id"]]).fetchone() == ("tenant-secret",)
        await user.crons.delete(cast(Any, cron)["cron_id"])
        await user.threads.delete(thread["thread_id"])
