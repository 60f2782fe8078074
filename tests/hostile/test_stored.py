"""A user stores so much and no more, whichever way; who deletes has room again; and what is said to be stored is there."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any, LiteralString
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import APIStatusError, NotFoundError
from psycopg.types.json import Jsonb

from durathread.db.pool import Pool, connection, open_pool
from durathread.embedded.engines import Engines
from tests.api.auth import client_of
from tests.eventually import eventually
from tests.hostile.conftest import guarded, headers_of
from tests.runs.support import entered, log_of, start, status_becomes
from tests.stack import GRAPHS, Stack

MOST = 1_000_000
# A node that keeps items, through a client without a URL, until it may keep no more.
INSIDE = """
from typing import TypedDict
from langgraph.graph import START, StateGraph
from langgraph_sdk import get_client
from langgraph_sdk.errors import APIStatusError, NotFoundError


class State(TypedDict, total=False):
    size: int
    kept: int
    refusal: int


async def keep(state: State) -> State:
    client, kept = get_client(), 0
    while True:
        try:
            await client.store.put_item(("inside",), str(kept), {"text": "x" * state["size"]})
            kept += 1
        except APIStatusError as error:
            return {"kept": kept, "refusal": error.status_code}


builder = StateGraph(State)
builder.add_node("keep", keep)
builder.add_edge(START, "keep")
"""
DRIFT: LiteralString = """
SELECT measured_bytes(s.holder) AS stored,
       (s.bytes + coalesce((SELECT sum(c.bytes) FROM stored_change c WHERE c.holder = s.holder), 0))::bigint AS said
FROM stored s WHERE s.holder = %s
"""
TOO_MUCH = {"detail": f"No more than {MOST} stored bytes are allowed: delete something first."}
LATER: dict[str, Any] = {"input": {"log": []}, "after_seconds": 3600}


@pytest.fixture(scope="module")
async def bounded(engine_set: Engines, database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A server with a quota of bytes and the README's auth."""
    assert database
    graphs = {
        "agent": f"{GRAPHS.parent / 'agent.py'}:graph",
        "parallel": f"{GRAPHS.parent / 'agent.py'}:parallel",
        "memory": f"{GRAPHS.parent / 'memory.py'}:graph",
        "inside": "./inside.py:builder",
    }
    folder = tmp_path_factory.mktemp("stored")
    (folder / "inside.py").write_text(INSIDE)
    async with guarded(engine_set, folder, "stored", quotas={"bytes": MOST}, graphs=graphs) as stack:
        yield stack


@pytest.fixture
async def alice(bounded: Stack) -> AsyncIterator[LangGraphClient]:
    """A user, of whom nothing is left afterwards."""
    async with client_of(bounded, headers_of("alice")) as client:
        yield client
        await clear(client)


async def clear(client: LangGraphClient) -> None:
    """Delete all that a user has."""
    for thread in await client.threads.search(limit=1000, select=["thread_id"]):
        await client.threads.delete(thread["thread_id"])
    for item in (await client.store.search_items((), limit=1000))["items"]:
        await client.store.delete_item(item["namespace"], item["key"])
    crons: list[Any] = await client.crons.search(limit=1000)
    for cron in crons:
        await client.crons.delete(cron["cron_id"])
    for assistant in await client.assistants.search(limit=1000, metadata={"owner": "stored-alice"}):
        await client.assistants.delete(assistant["assistant_id"])


async def said(pool: Pool, holder: str = "stored-alice") -> int:
    """Return how much somebody is said to have stored: it is what they have."""
    async with connection(pool) as conn:
        row = await (await conn.execute(DRIFT, (holder,))).fetchone()
    assert row is not None
    assert row["said"] == row["stored"]
    return row["said"]


async def fill(client: LangGraphClient) -> None:
    """Store so much that nothing else has room: items that become smaller, to those that are empty."""
    for value in [{"text": "x" * size} for size in (400_000, 100_000, 20_000, 5_000, 1_000, 100)] + [{}]:
        while await is_put(client, value):
            pass


async def is_put(client: LangGraphClient, value: dict[str, str]) -> bool:
    """Put an item, and say whether there was room for it."""
    try:
        await client.store.put_item(("full",), str(uuid4()), value)
    except APIStatusError as error:
        if error.status_code != 429:
            raise
        return False
    return True


def operation(request: httpx.Request, paths: dict[str, Any]) -> tuple[str, str]:
    """Name what a request asked for as the description does."""
    for path in paths:
        if re.fullmatch(re.sub(r"\{\w+\}", r"[0-9a-f-]{36}", path), request.url.path):
            return path, request.method.lower()
    raise AssertionError(request.url.path)


async def test_what_is_said_to_be_stored_is_what_is_there_whatever_was_done(
    bounded: Stack, alice: LangGraphClient, pool: Pool, database: str, tmp_path: Path
) -> None:
    thread = (await alice.threads.create(metadata={"text": "x" * 5000}))["thread_id"]
    empty = await said(pool)
    large: dict[str, Any] = {"input": {"log": ["y" * 2000], "do": {"a": {"large": 3000}}}}
    await alice.runs.wait(thread, "agent", **large)
    assert await said(pool) > empty + 10_000
    await alice.runs.wait(thread, "parallel", input={"log": ["z" * 3000]})
    await alice.threads.update_state(thread, {"log": ["edited", "e" * 2000]}, as_node="done")
    await alice.threads.update(thread, metadata={"more": "m" * 3000})
    await said(pool)

    copy: Any = await alice.threads.copy(thread)
    before = await said(pool)
    trace = tmp_path / "trace"
    held = {"a": {"trace": str(trace), "large": 1000}, "b": {"until": str(tmp_path / "never"), "trace": str(trace)}}
    old = await start(alice, copy["thread_id"], "old", do=held)
    await entered(trace, 2)
    await start(alice, copy["thread_id"], "new", multitask_strategy="rollback", after_seconds=3600)
    await said(pool)
    assert old["run_id"] not in [run["run_id"] for run in await alice.runs.list(copy["thread_id"])]
    await alice.threads.delete(copy["thread_id"])
    assert await said(pool) < before / 1.5

    await alice.runs.wait(thread, "memory", input={"label": "alice", "keep": {"k": {"text": "k" * 4000}}})
    await alice.runs.wait(thread, "memory", input={"label": "alice", "keep": {"k": {"text": "k"}}})
    await alice.store.put_item(("own",), "one", {"text": "o" * 5000})
    await alice.store.put_item(("own",), "one", {"text": "o"})
    await said(pool)
    run = (await alice.runs.list(thread))[0]
    await alice.runs.delete(thread, run["run_id"])
    await said(pool)
    await alice.threads.prune([thread], strategy="keep_latest")
    await said(pool)
    cron: Any = await alice.crons.create("agent", schedule="0 0 1 1 *", input={"log": ["c" * 900]})
    await alice.crons.update(cron["cron_id"], input={"log": ["c" * 1900]})
    assistant = await alice.assistants.create("agent", metadata={"text": "a" * 700})
    await alice.assistants.update(assistant["assistant_id"], metadata={"text": "a" * 800})
    await said(pool)

    await bounded.kill("worker")
    lost = await start(alice, thread, "lost", do={"b": {"large": 2000}})
    await bounded.start("worker")
    await alice.runs.join(thread, lost["run_id"])
    await said(pool)
    await clear(alice)
    # A graph has no client of its own: what it put is there, and is its holder's.
    assert 0 < await said(pool) < 500
    async with open_pool(database, size=2, counting=True) as counting, connection(counting) as conn:
        await conn.execute("DELETE FROM store WHERE prefix LIKE 'memory.%'")
    assert await said(pool) == 0


async def test_of_many_at_once_so_many_are_stored_as_there_is_room_for(
    bounded: Stack, alice: LangGraphClient, pool: Pool
) -> None:
    size = MOST // 10
    puts: list[Awaitable[Any]] = [
        alice.store.put_item(("many",), str(number), {"text": "x" * size}) for number in range(15)
    ]
    threads: list[Awaitable[Any]] = [alice.threads.create(metadata={"text": "x" * size}) for _ in range(15)]
    runs: list[Awaitable[Any]] = [
        alice.runs.create(None, "agent", metadata={"text": "x" * (size // 2)}, on_completion="keep", **LATER)
        for _ in range(15)
    ]
    refused = 0
    for outcome in await asyncio.gather(*puts, *threads, *runs, return_exceptions=True):
        if isinstance(outcome, BaseException):
            assert isinstance(outcome, APIStatusError)
            assert (outcome.status_code, outcome.response.json()) == (429, TOO_MUCH)
            assert int(outcome.response.headers["retry-after"]) > 0
            refused += 1
    assert MOST - 2 * size < await said(pool) <= MOST
    assert refused >= 35

    # Another user is not concerned.
    async with client_of(bounded, headers_of("bob")) as bob:
        item = {"text": "x" * size}
        await bob.store.put_item(("many",), "of bob", item)
        await bob.store.delete_item(("many",), "of bob")
    await clear(alice)
    assert await said(pool) < 1000
    await alice.store.put_item(("many",), "again", {"text": "x" * (9 * size)})


async def test_who_is_full_creates_nothing_and_changes_nothing_but_reads_deletes_and_makes_room(
    bounded: Stack, alice: LangGraphClient, pool: Pool
) -> None:
    thread = (await alice.threads.create())["thread_id"]
    await alice.runs.wait(thread, "agent", input={"log": ["one"]})
    waiting = await alice.runs.create(thread, "agent", **LATER)
    busy = (await alice.threads.create())["thread_id"]
    large = await alice.runs.create(busy, "agent", input={"log": ["x" * 50_000]}, after_seconds=3600)
    assistant = await alice.assistants.create("agent")
    cron: Any = await alice.crons.create("agent", schedule="0 0 1 1 *")
    rests = (await alice.threads.create())["thread_id"]
    await alice.runs.wait(rests, "agent", input={"log": []})
    await fill(alice)
    stored = await said(pool)

    async def streamed() -> None:
        async for _ in alice.runs.stream(thread, "agent", input={"log": []}):
            pass

    async def stateless() -> None:
        async for _ in alice.runs.stream(None, "agent", input={"log": []}):
            pass

    payload: Any = [{"assistant_id": "agent", **LATER}] * 2
    ways: list[Awaitable[Any]] = [
        alice.threads.create(),
        alice.threads.create(graph_id="agent", supersteps=[{"updates": [{"values": {"log": []}, "as_node": "a"}]}]),
        alice.threads.copy(thread),
        alice.threads.update(thread, metadata={"text": "x" * 1000}),
        alice.runs.create(thread, "agent", **LATER),
        alice.runs.create(str(uuid4()), "agent", if_not_exists="create", **LATER),
        alice.runs.create(None, "agent", **LATER),
        alice.runs.wait(thread, "agent", input={"log": []}),
        alice.runs.wait(None, "agent", input={"log": []}),
        streamed(),
        alice.runs.create_batch(payload),
        alice.crons.create("agent", schedule="0 0 1 1 *"),
        alice.crons.create_for_thread(thread, "agent", schedule="0 0 1 1 *"),
        alice.crons.update(cron["cron_id"], input={"log": ["x" * 1000]}),
        alice.assistants.create("agent"),
        alice.assistants.update(assistant["assistant_id"], metadata={"more": "x"}),
        alice.store.put_item(("more",), "key", {}),
        stateless(),
        alice.threads.update_state(rests, {"log": ["x" * 1000]}, as_node="a"),
    ]
    used: set[tuple[str, str]] = set()
    async with httpx.AsyncClient(base_url=bounded.url) as http:
        paths: dict[str, Any] = (await http.get("/openapi.json")).json()["paths"]
    for number, way in enumerate(ways):
        with pytest.raises((APIStatusError, httpx.HTTPStatusError)) as refused:
            await way
        assert refused.value.response.status_code == 429, number
        used.add(operation(refused.value.response.request, paths))
    assert used == {
        (path, method)
        for path, methods in paths.items()
        for method, said in methods.items()
        if "429" in said["responses"]
    }
    assert all("Retry-After" in paths[path][method]["responses"]["429"]["headers"] for path, method in used)
    command = {"id": 1, "method": "run.start", "params": {"assistant_id": "agent", "input": {"log": []}}}
    async with httpx.AsyncClient(base_url=bounded.url, headers=headers_of("alice")) as http:
        answer = (await http.post(f"/threads/{thread}/commands", json=command)).json()
    assert (answer["type"], answer["message"]) == ("error", TOO_MUCH["detail"])
    assert await said(pool) == stored

    assert (await log_of(alice, thread))[0] == "one"
    await alice.runs.cancel(thread, waiting["run_id"])
    # What is smaller than what it replaces makes room.
    await alice.runs.create(busy, "agent", multitask_strategy="rollback", input={"log": []}, after_seconds=3600)
    assert large["run_id"] not in [run["run_id"] for run in await alice.runs.list(busy)]
    full = (await alice.store.search_items(("full",), limit=100))["items"]
    biggest = max(full, key=lambda item: len(item["value"].get("text", "")))
    await alice.store.put_item(biggest["namespace"], biggest["key"], {"text": "small"})
    await alice.threads.create()


async def test_state_is_not_edited_without_room_and_a_run_that_works_goes_on(
    alice: LangGraphClient, pool: Pool, tmp_path: Path
) -> None:
    edited = (await alice.threads.create())["thread_id"]
    await alice.runs.wait(edited, "agent", input={"log": []})
    thread, gate = (await alice.threads.create())["thread_id"], tmp_path / "gate"
    do = {"a": {"trace": str(tmp_path / "trace"), "until": str(gate)}, "b": {"large": 50_000}}
    run = await start(alice, thread, "works", do=do)
    await entered(tmp_path / "trace")
    await fill(alice)
    with pytest.raises(APIStatusError) as refused:
        await alice.threads.update_state(edited, {"log": ["x" * 1000]}, as_node="a")
    assert (refused.value.status_code, refused.value.response.json()) == (429, TOO_MUCH)
    gate.touch()
    await alice.runs.join(thread, run["run_id"])
    assert (await alice.runs.get(thread, run["run_id"]))["status"] == "success"
    assert await said(pool) > MOST
    await status_becomes(alice, thread, "idle")


async def test_who_may_not_change_a_thread_does_not_come_to_have_it(
    bounded: Stack, alice: LangGraphClient, pool: Pool
) -> None:
    thread = (await alice.threads.create())["thread_id"]
    holder = "SELECT holder FROM thread WHERE thread_id = %s"
    async with connection(pool) as conn:
        # As of before there was a quota.
        await conn.execute("UPDATE thread SET holder = NULL WHERE thread_id = %s", (thread,))
    async with client_of(bounded, headers_of("bob")) as bob:
        with pytest.raises(NotFoundError):
            await bob.threads.update(thread, metadata={"text": "x"})
    async with connection(pool) as conn:
        assert (await (await conn.execute(holder, (thread,))).fetchall())[0]["holder"] is None
    await alice.threads.update(thread, metadata={"text": "x"})
    async with connection(pool) as conn:
        assert (await (await conn.execute(holder, (thread,))).fetchall())[0]["holder"] == "stored-alice"


async def test_what_a_node_keeps_through_a_client_is_whose_run_it_is(alice: LangGraphClient, pool: Pool) -> None:
    thread = (await alice.threads.create())["thread_id"]
    found: Any = await alice.runs.wait(thread, "inside", input={"size": MOST // 5})
    assert (found["kept"], found["refusal"]) == (4, 429)
    assert await said(pool) > MOST * 4 / 5
    async with open_pool(str(pool.conninfo), size=2, counting=True) as counting, connection(counting) as conn:
        await conn.execute("DELETE FROM store WHERE prefix = 'inside'")
    assert await said(pool) < MOST / 5


async def test_a_cron_whose_user_is_full_says_so_of_each_firing(alice: LangGraphClient, pool: Pool) -> None:
    cron: Any = await alice.crons.create("agent", schedule="0 0 1 1 *", input={"log": []})
    await fill(alice)
    # Room for a change of the cron, so that it fires now; then there is none again.
    items = (await alice.store.search_items(("full",), limit=100))["items"]
    item = max(items, key=lambda item: len(item["value"].get("text", "")))
    await alice.store.put_item(item["namespace"], item["key"], {"text": ""})
    await alice.crons.update(cron["cron_id"], schedule="* * * * * *")
    await fill(alice)
    reasons = "SELECT reason FROM cron_firing WHERE cron_id = %s AND reason <> ''"

    async def refused() -> Any:
        async with connection(pool) as conn:
            return await (await conn.execute(reasons, (cron["cron_id"],))).fetchone()

    assert (await eventually(refused))["reason"] == TOO_MUCH["detail"]


async def test_a_total_that_is_wrong_is_put_right_before_anybody_is_refused(alice: LangGraphClient, pool: Pool) -> None:
    await alice.store.put_item(("own",), "one", {"text": "x" * 500_000})
    async with connection(pool) as conn:
        # Somebody has written who does not count.
        await conn.execute("DELETE FROM store WHERE prefix = 'own'")
        await conn.execute("UPDATE stored SET bytes = bytes + 5000000, measured_at = now() - interval '1 hour'")
    await alice.threads.create()
    await said(pool)


async def test_a_server_that_starts_measures_what_others_have_written_meanwhile(
    bounded: Stack, alice: LangGraphClient, pool: Pool
) -> None:
    thread = (await alice.threads.create())["thread_id"]
    async with connection(pool) as conn:
        await conn.execute(
            "UPDATE thread SET metadata = metadata || %s WHERE thread_id = %s",
            (Jsonb({"large": "x" * (MOST + 1)}), thread),
        )
    await bounded.stop("api", signal.SIGTERM)
    await bounded.start("api")
    await bounded.ready()
    with pytest.raises(APIStatusError) as refused:
        await alice.threads.create()
    assert refused.value.status_code == 429
