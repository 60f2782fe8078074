"""Two users of one server: each sees, and may change, what is theirs. What is another's is not there."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import APIStatusError, ConflictError, NotFoundError
from langgraph_sdk.schema import RunCreate
from temporalio.client import Client

from tests.api.auth import headers_of
from tests.eventually import eventually
from tests.stack import Stack

LONG = {"log": [], "do": {"a": {"sleep": 60}}}
"""An input that keeps a run at work."""


@pytest.fixture
async def thread_id(alice: LangGraphClient) -> AsyncIterator[str]:
    """A thread of Alice's that a run has worked on."""
    thread = await alice.threads.create(metadata={"topic": "x"})
    await alice.runs.wait(thread["thread_id"], "agent", input={"log": ["mine"]})
    yield thread["thread_id"]
    await alice.threads.delete(thread["thread_id"])


async def started(client: LangGraphClient, thread_id: str) -> str:
    """Start a run that works until it is cancelled."""
    run = await client.runs.create(thread_id, "agent", input=LONG)

    async def runs() -> bool:
        return (await client.runs.get(thread_id, run["run_id"]))["status"] == "running"

    await eventually(runs)
    return run["run_id"]


def metadata_of(shown: Any) -> dict[str, Any]:
    """Return the metadata of what the API shows."""
    return shown["metadata"]


async def drained(stream: Any) -> list[Any]:
    """Read a stream to its end."""
    return [part async for part in (await stream if inspect.isawaitable(stream) else stream)]


async def test_what_somebody_creates_is_theirs(alice: LangGraphClient, thread_id: str) -> None:
    thread = await alice.threads.get(thread_id)
    assert metadata_of(thread)["owner"] == "alice"
    assert thread["values"] == {"log": ["mine", "a", "b", "c"]}


async def test_nobody_else_finds_it(alice: LangGraphClient, bob: LangGraphClient, thread_id: str) -> None:
    assert [t["thread_id"] for t in await alice.threads.search(ids=[thread_id])] == [thread_id]
    assert await bob.threads.search(ids=[thread_id]) == []
    assert await bob.threads.search(metadata={"owner": "alice"}) == []
    assert await bob.threads.count(metadata={"topic": "x"}) == 0
    assert await alice.threads.count(metadata={"topic": "x"}) == 1


async def test_nobody_is_told_what_works_on_anothers_thread(
    alice: LangGraphClient, bob: LangGraphClient, thread_id: str
) -> None:
    """A run that would wait for itself is refused, and only who may use the thread learns so."""
    run_id = await started(alice, thread_id)
    path = f"/threads/{thread_id}/runs/wait"
    plain: Any = {"assistant_id": "agent", "input": {"log": []}}
    ways = [
        (plain, {"x-durathread-run": run_id}),
        ({**plain, "config": {"configurable": {"run_id": run_id}}}, {}),
    ]
    for body, headers in ways:
        for client, status in ((alice, 409), (bob, 404)):
            answer = await client.http.client.post(path, json=body, headers=headers)
            assert (answer.status_code, run_id in answer.text) == (status, client is alice)
    assert [run["run_id"] for run in await alice.runs.list(thread_id) if run["status"] != "success"] == [run_id]
    own = await bob.threads.create()
    answer = await bob.http.client.post(
        f"/threads/{own['thread_id']}/runs/wait", json=plain, headers={"x-durathread-run": run_id}
    )
    assert answer.status_code == 200
    assert run_id not in str(await bob.runs.list(own["thread_id"]))
    await bob.threads.delete(own["thread_id"])
    await alice.runs.cancel(thread_id, run_id, wait=True)


THREAD_CALLS: dict[str, Callable[[LangGraphClient, str], Awaitable[Any]]] = {
    "get": lambda c, t: c.threads.get(t),
    "update": lambda c, t: c.threads.update(t, metadata={"topic": "stolen"}),
    "update minimally": lambda c, t: c.threads.update(t, metadata={"topic": "stolen"}, return_minimal=True),
    "delete": lambda c, t: c.threads.delete(t),
    "get_state": lambda c, t: c.threads.get_state(t),
    "get_state at": lambda c, t: c.threads.get_state(t, checkpoint_id=str(uuid4())),
    "get_state of": lambda c, t: c.threads.get_state(t, checkpoint=cast(Any, {"checkpoint_ns": ""})),
    "update_state": lambda c, t: c.threads.update_state(t, {"log": ["stolen"]}, as_node="a"),
    "get_history": lambda c, t: c.threads.get_history(t),
    "join_stream": lambda c, t: drained(c.threads.join_stream(t)),
    "storage": lambda c, t: c.http.get(f"/threads/{t}/storage"),
    "runs.list": lambda c, t: c.runs.list(t),
    "runs.create": lambda c, t: c.runs.create(t, "agent", input={"log": []}),
    "runs.create if not exists": lambda c, t: c.runs.create(t, "agent", input={"log": []}, if_not_exists="create"),
    "runs.create in its place": lambda c, t: c.runs.create(t, "agent", input={}, multitask_strategy="rollback"),
    "runs.stream": lambda c, t: drained(c.runs.stream(t, "agent", input={"log": []})),
    "runs.cancel_many": lambda c, t: c.runs.cancel_many(thread_id=t, run_ids=[str(uuid4())]),
}


@pytest.mark.parametrize("call", THREAD_CALLS)
async def test_a_thread_of_another_does_not_exist(
    alice: LangGraphClient, bob: LangGraphClient, thread_id: str, call: str
) -> None:
    before = await alice.threads.get(thread_id)
    with pytest.raises(NotFoundError):
        await THREAD_CALLS[call](bob, thread_id)
    assert await alice.threads.get(thread_id) == before
    assert len(await alice.runs.list(thread_id)) == 1


@pytest.mark.parametrize(
    "call", [call for call in THREAD_CALLS if call not in ("delete", "runs.cancel_many", "join_stream")]
)
async def test_its_owner_may_do_it(alice: LangGraphClient, thread_id: str, call: str) -> None:
    await THREAD_CALLS[call](alice, thread_id)


RUN_CALLS: dict[str, Callable[[LangGraphClient, str, str], Awaitable[Any]]] = {
    "get": lambda c, t, r: c.runs.get(t, r),
    "join": lambda c, t, r: c.runs.join(t, r),
    "join_stream": lambda c, t, r: drained(c.runs.join_stream(t, r)),
    "stateless stream": lambda c, t, r: c.http.get(f"/runs/{r}/stream"),
    "join and cancel": lambda c, t, r: c.http.get(f"/threads/{t}/runs/{r}/join?cancel_on_disconnect=true"),
    "cancel": lambda c, t, r: c.runs.cancel(t, r),
    "cancel and wait": lambda c, t, r: c.runs.cancel(t, r, wait=True),
    "rollback": lambda c, t, r: c.runs.cancel(t, r, action="rollback"),
    "cancel_many": lambda c, t, r: c.runs.cancel_many(thread_id=t, run_ids=[r]),
    "delete": lambda c, t, r: c.runs.delete(t, r),
}


@pytest.mark.parametrize("call", RUN_CALLS)
async def test_a_run_of_another_does_not_exist(
    alice: LangGraphClient, bob: LangGraphClient, thread_id: str, call: str
) -> None:
    [run] = await alice.runs.list(thread_id)
    with pytest.raises(httpx.HTTPStatusError) as refused:
        await RUN_CALLS[call](bob, thread_id, run["run_id"])
    assert refused.value.response.status_code == 404
    assert (await alice.runs.get(thread_id, run["run_id"]))["status"] == "success"


async def test_a_run_of_another_goes_on(alice: LangGraphClient, bob: LangGraphClient, thread_id: str) -> None:
    run_id = await started(alice, thread_id)
    mine = await bob.threads.create()
    other = await started(bob, mine["thread_id"])
    for call in ("cancel", "rollback", "cancel_many", "delete", "join", "join_stream"):
        with pytest.raises(httpx.HTTPStatusError) as refused:
            await RUN_CALLS[call](bob, thread_id, run_id)
        assert refused.value.response.status_code == 404
    # By status, too, only one's own.
    await bob.runs.cancel_many(status="all")
    assert (await bob.runs.get(mine["thread_id"], other))["status"] == "interrupted"
    assert (await alice.runs.get(thread_id, run_id))["status"] == "running"
    with pytest.raises(NotFoundError):
        await bob.runs.cancel_many(status="running")
    await alice.runs.cancel(thread_id, run_id, wait=True)
    assert (await alice.runs.get(thread_id, run_id))["status"] == "interrupted"


async def test_streams_are_refused_before_they_open(owners: Stack, alice: LangGraphClient, thread_id: str) -> None:
    [run] = await alice.runs.list(thread_id)
    async with httpx.AsyncClient(base_url=owners.url, headers=headers_of("bob")) as http:
        for path in (
            f"/threads/{thread_id}/stream",
            f"/threads/{thread_id}/runs/{run['run_id']}/stream",
            f"/runs/{run['run_id']}/stream",
        ):
            answer = await http.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json"), path
            assert list(answer.json()) == ["detail"]


async def test_an_id_that_is_taken_is_taken(alice: LangGraphClient, bob: LangGraphClient, thread_id: str) -> None:
    for again in ("raise", "do_nothing"):
        with pytest.raises(ConflictError):
            await bob.threads.create(thread_id=thread_id, if_exists=cast(Any, again))
    same = await alice.threads.create(thread_id=thread_id, if_exists="do_nothing")
    assert same["thread_id"] == thread_id


async def test_an_id_that_both_want_goes_to_one(alice: LangGraphClient, bob: LangGraphClient) -> None:
    for _ in range(10):
        thread_id = str(uuid4())
        made = await asyncio.gather(
            *(user.threads.create(thread_id=thread_id, if_exists="do_nothing") for user in (alice, bob) * 2),
            return_exceptions=True,
        )
        owners = {metadata_of(thread)["owner"] for thread in made if isinstance(thread, dict)}
        assert len(owners) == 1
        assert sum(isinstance(thread, ConflictError) for thread in made) == 2
        run = await asyncio.gather(
            *(user.runs.create(thread_id, "agent", input={"log": []}, if_not_exists="create") for user in (alice, bob)),
            return_exceptions=True,
        )
        assert sum(isinstance(each, NotFoundError) for each in run) == 1


async def test_a_run_that_both_start_on_a_new_thread_is_ones(alice: LangGraphClient, bob: LangGraphClient) -> None:
    for _ in range(5):
        thread_id = str(uuid4())
        made = await asyncio.gather(
            *(user.runs.create(thread_id, "agent", input={"log": []}, if_not_exists="create") for user in (alice, bob)),
            return_exceptions=True,
        )
        assert sorted(isinstance(each, NotFoundError) for each in made) == [False, True]
        winner = (alice, bob)[isinstance(made[0], NotFoundError)]
        assert metadata_of((await winner.runs.list(thread_id))[0])["owner"] in ("alice", "bob")


async def test_a_copy_of_anothers_thread_is_a_conflict(
    alice: LangGraphClient, bob: LangGraphClient, thread_id: str
) -> None:
    with pytest.raises(ConflictError):
        await bob.threads.copy(thread_id)
    copied = cast(Any, await alice.threads.copy(thread_id))
    assert copied["metadata"]["owner"] == "alice"
    assert (await alice.threads.get_state(copied["thread_id"]))["values"] == {"log": ["mine", "a", "b", "c"]}


@pytest.mark.parametrize("strategy", ["delete", "keep_latest"])
async def test_a_prune_skips_anothers_thread_as_it_skips_none(
    alice: LangGraphClient, bob: LangGraphClient, thread_id: str, strategy: Any
) -> None:
    before = await alice.threads.get(thread_id), await alice.threads.get_history(thread_id)
    own = (await bob.threads.create())["thread_id"]
    assert await bob.threads.prune([own, thread_id, str(uuid4())], strategy=strategy) == {"pruned_count": 1}
    assert (await alice.threads.get(thread_id), await alice.threads.get_history(thread_id)) == before


async def test_an_owner_cannot_be_given_away(alice: LangGraphClient, bob: LangGraphClient) -> None:
    thread = await alice.threads.create(metadata={"owner": "bob"})
    assert metadata_of(thread)["owner"] == "alice"
    patched = cast(Any, await alice.threads.update(thread["thread_id"], metadata={"owner": "bob"}))
    assert patched["metadata"]["owner"] == "alice"
    run = await alice.runs.create(
        str(uuid4()), "agent", input={"log": []}, if_not_exists="create", metadata={"owner": "bob"}
    )
    assert metadata_of(run)["owner"] == "alice"
    assert metadata_of(await alice.threads.get(run["thread_id"]))["owner"] == "alice"
    assert await bob.threads.search(ids=[thread["thread_id"], run["thread_id"]]) == []


async def test_a_run_without_a_thread_is_its_starters(alice: LangGraphClient, bob: LangGraphClient) -> None:
    kept = await alice.runs.create(None, "agent", input={"log": []}, on_completion="keep")
    assert await alice.runs.join(kept["thread_id"], kept["run_id"]) == {"log": ["a", "b", "c"]}
    with pytest.raises(NotFoundError):
        await bob.threads.get(kept["thread_id"])
    assert await alice.runs.wait(None, "agent", input={"log": []}) == {"log": ["a", "b", "c"]}
    *_, values, end = await drained(alice.runs.stream(None, "agent", input={"log": []}))
    assert (values.data, end.event) == ({"log": ["a", "b", "c"]}, "end")
    [one, other] = await alice.runs.create_batch([cast(RunCreate, {"assistant_id": "agent"}) for _ in range(2)])
    assert {metadata_of(one)["owner"], metadata_of(other)["owner"]} == {"alice"}


async def test_a_stream_that_is_cut_is_joined_again_by_its_owner(alice: LangGraphClient, bob: LangGraphClient) -> None:
    run = await alice.runs.create(None, "agent", input=LONG, stream_resumable=True)
    run_id, thread_id = run["run_id"], run["thread_id"]
    with pytest.raises(NotFoundError):
        await bob.http.get(f"/runs/{run_id}/stream")
    seen = asyncio.create_task(drained(alice.runs.join_stream(thread_id, run_id)))
    await alice.runs.cancel(thread_id, run_id, wait=True)
    assert await seen


async def test_assistants_have_owners(alice: LangGraphClient, bob: LangGraphClient) -> None:
    mine = await alice.assistants.create("agent", name="mine", metadata={"owner": "bob"})
    assistant_id = mine["assistant_id"]
    assert metadata_of(mine)["owner"] == "alice"
    assert [a["assistant_id"] for a in await alice.assistants.search(name="mine")] == [assistant_id]
    assert await bob.assistants.search(name="mine") == []
    assert await bob.assistants.count(name="mine") == 0
    calls: tuple[Awaitable[Any], ...] = (
        bob.assistants.get(assistant_id),
        bob.assistants.update(assistant_id, name="stolen"),
        bob.assistants.delete(assistant_id),
        bob.assistants.get_graph(assistant_id),
        bob.assistants.get_schemas(assistant_id),
        bob.assistants.get_subgraphs(assistant_id),
        bob.assistants.get_subgraphs(assistant_id, namespace="x"),
        bob.assistants.get_versions(assistant_id),
        bob.assistants.set_latest(assistant_id, 1),
        bob.runs.create(None, assistant_id, input={"log": []}),
        bob.runs.wait(None, assistant_id, input={"log": []}),
        bob.runs.create_batch([cast(RunCreate, {"assistant_id": assistant_id})]),
    )
    for call in calls:
        with pytest.raises(httpx.HTTPStatusError) as refused:
            await call
        assert refused.value.response.status_code == 404
    for again in ("raise", "do_nothing"):
        with pytest.raises(ConflictError):
            await bob.assistants.create("agent", assistant_id=assistant_id, if_exists=cast(Any, again))
    renamed = await alice.assistants.update(assistant_id, name="still mine")
    assert (renamed["name"], renamed["version"]) == ("still mine", 2)
    assert len(await alice.assistants.get_versions(assistant_id)) == 2
    assert (await alice.assistants.set_latest(assistant_id, 1))["name"] == "mine"
    assert await alice.runs.wait(None, assistant_id, input={"log": []}) == {"log": ["a", "b", "c"]}
    await alice.assistants.delete(assistant_id)


async def test_the_assistants_of_graphs_are_for_all_runs(alice: LangGraphClient) -> None:
    # They are nobody's, so that nobody finds them, under these handlers; but everybody may run them.
    with pytest.raises(NotFoundError):
        await alice.assistants.get("fe096781-5601-53d2-b2f6-0d3403f7e9ca")
    assert await alice.runs.wait(None, "fe096781-5601-53d2-b2f6-0d3403f7e9ca", input={"log": []})


async def test_items_are_kept_apart(alice: LangGraphClient, bob: LangGraphClient) -> None:
    space = uuid4().hex
    await alice.store.put_item([space], key="k", value={"is": "alice's"})
    await bob.store.put_item([space], key="k", value={"is": "bob's"})
    await alice.store.put_item(["alice", space, "deep"], key="k", value={"is": "alice's"})
    found = cast(Any, await bob.store.get_item([space], key="k"))
    assert (found["value"], found["namespace"]) == ({"is": "bob's"}, ["bob", space])
    assert [item["value"] for item in (await bob.store.search_items([space]))["items"]] == [{"is": "bob's"}]
    assert len((await bob.store.search_items(["alice", space]))["items"]) == 0
    assert len((await alice.store.search_items([]))["items"]) >= 2
    assert {item["namespace"][0] for item in (await bob.store.search_items([], limit=1000))["items"]} == {"bob"}
    listed = (await bob.store.list_namespaces(limit=1000))["namespaces"]
    assert ["bob", space] in listed
    assert {namespace[0] for namespace in listed} == {"bob"}
    await bob.store.delete_item(["alice", space], key="k")
    assert await alice.store.get_item([space], key="k")
    await alice.store.delete_item([space], key="k")
    assert await alice.store.get_item([space], key="k") is None
    assert await bob.store.get_item([space], key="k")


async def test_crons_have_owners_and_so_has_what_they_start(
    owners: Stack, alice: LangGraphClient, bob: LangGraphClient
) -> None:
    made = cast(Any, await alice.crons.create("who", schedule="0 0 1 1 *", input={}, on_run_completed="keep"))
    cron_id = made["cron_id"]
    assert (made["user_id"], made["metadata"]["owner"]) == ("alice", "alice")
    assert [cron["cron_id"] for cron in await alice.crons.search(metadata={"owner": "alice"})] == [cron_id]
    assert await bob.crons.search() == []
    assert await bob.crons.count() == 0
    refused: tuple[Awaitable[Any], ...] = (
        bob.http.get(f"/runs/crons/{cron_id}"),
        bob.crons.update(cron_id, schedule="* * * * *"),
        bob.crons.delete(cron_id),
    )
    for call in refused:
        with pytest.raises(NotFoundError):
            await call
    temporal = await Client.connect(owners.environment["TEMPORAL_ADDRESS"])
    await temporal.get_schedule_handle(f"cron/{cron_id}").trigger()

    async def fired() -> Any:
        return await alice.threads.search(metadata={"cron_id": cron_id}, status="idle")

    [thread] = await eventually(fired, timeout=30)
    assert thread["values"]["seen"]["key"] == "alice"
    assert metadata_of(thread)["owner"] == "alice"
    await alice.crons.delete(cron_id)


async def test_a_cron_on_anothers_thread_is_refused(
    alice: LangGraphClient, bob: LangGraphClient, thread_id: str
) -> None:
    with pytest.raises(NotFoundError):
        await bob.crons.create_for_thread(thread_id, "agent", schedule="0 0 1 1 *")
    assert await alice.crons.search(thread_id=thread_id) == []


async def test_a_wait_for_another_is_refused(owners: Stack, bob: LangGraphClient, thread_id: str) -> None:
    with pytest.raises((APIStatusError, httpx.HTTPStatusError)) as refused:
        await bob.runs.wait(thread_id, "agent", input={"log": []})
    assert refused.value.response.status_code == 404
