"""A user has so many runs in flight, and so many crons, and not one more, however they come."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import APIStatusError
from temporalio.client import Client

from durathread.config.langgraph_json import parse
from durathread.db.pool import connection, open_pool
from durathread.embedded.engines import Engines
from durathread.errors import ConfigError
from durathread.runs.policies import terms_of
from tests.api.auth import client_of
from tests.eventually import eventually
from tests.hostile.conftest import guarded, headers_of
from tests.hostile.test_signals import refused, request_of, signal
from tests.stack import GRAPHS, Stack

MOST = 10
# They wait for longer than the tests last.
LATER: dict[str, Any] = {"input": {"messages": []}, "after_seconds": 3600}
# A node that starts runs through a client without a URL, and says what it was answered.
INSIDE = """
from typing import TypedDict
from langgraph.graph import START, StateGraph
from langgraph_sdk import get_client
from langgraph_sdk.errors import APIStatusError


class State(TypedDict, total=False):
    wanted: int
    answers: list[int]


async def ask(state: State) -> State:
    client, answers = get_client(), []
    for _ in range(state["wanted"]):
        try:
            owner = {"owner": "quota-alice"}
            await client.runs.create(None, "agent", input={"log": []}, after_seconds=3600, metadata=owner, on_completion="keep")
            answers.append(200)
        except APIStatusError as error:
            answers.append(error.status_code)
    return {"answers": answers}


builder = StateGraph(State)
builder.add_node("ask", ask)
builder.add_edge(START, "ask")
"""
REASONS = "SELECT reason FROM cron_firing WHERE cron_id = %s AND reason <> ''"
RUNS_LEFT = """
SELECT count(*) AS runs, count(*) FILTER (WHERE t.thread_id IS NULL) AS lost
FROM run r LEFT JOIN thread t USING (thread_id) WHERE r.holder = %s AND r.status = 'pending'
"""


@pytest.fixture(scope="module")
async def bounded(engine_set: Engines, database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A server with quotas and the README's auth."""
    assert database
    # Identities of its own: holders are counted in the whole database.
    config: dict[str, Any] = {"quotas": {"runs": MOST, "crons": 2}, "temporal": {"signals": True}}
    folder = tmp_path_factory.mktemp("bounded")
    (folder / "inside.py").write_text(INSIDE)
    config["graphs"] = {
        "agent": f"{GRAPHS.parent / 'agent.py'}:graph",
        "human": f"{GRAPHS.parent / 'human.py'}:hitl",
        "inside": f"{folder / 'inside.py'}:builder",
    }
    async with guarded(engine_set, folder, "quota", **config) as stack:
        yield stack


@pytest.fixture
async def alice(bounded: Stack) -> AsyncIterator[LangGraphClient]:
    """A user, whose runs are gone afterwards."""
    async with client_of(bounded, headers_of("alice")) as client:
        yield client
        for thread in await client.threads.search(limit=1000):
            await client.threads.delete(thread["thread_id"])


async def admitted(attempts: list[Awaitable[Any]]) -> int:
    """Count those that were; the others are refused as is right."""
    count = 0
    for outcome in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(outcome, BaseException):
            # The SDK's `wait` raises httpx's own, and has not read the body.
            assert isinstance(outcome, APIStatusError | httpx.HTTPStatusError), outcome
            assert outcome.response.status_code == 429, outcome
            assert int(outcome.response.headers["retry-after"]) > 0
            if isinstance(outcome, APIStatusError):
                assert outcome.response.json() == {"detail": f"No more than {MOST} runs in flight are allowed."}
        else:
            count += 1
    return count


async def test_of_a_hundred_at_once_exactly_so_many_are_admitted(
    bounded: Stack, alice: LangGraphClient, database: str
) -> None:
    threads = [str(uuid4()) for _ in range(50)]
    attempts: list[Awaitable[Any]] = [
        alice.runs.create(thread, "agent", if_not_exists="create", **LATER) for thread in threads
    ]
    attempts += [alice.runs.create(None, "agent", on_completion="keep", **LATER) for _ in range(50)]
    assert await admitted(attempts) == MOST
    async with open_pool(database, size=2) as pool, connection(pool) as conn:
        [row] = await (await conn.execute(RUNS_LEFT, ("quota-alice",))).fetchall()
    assert row == {"runs": MOST, "lost": 0}
    # Those that were refused have left no thread.
    left = await alice.threads.search(limit=1000)
    assert len(left) == MOST

    # Another user is not concerned.
    async with client_of(bounded, headers_of("bob")) as bob:
        run = await bob.runs.create(str(uuid4()), "agent", if_not_exists="create", **LATER)
        await bob.threads.delete(run["thread_id"])


async def test_every_way_in_is_refused_and_one_that_ends_makes_room(bounded: Stack, alice: LangGraphClient) -> None:
    thread = (await alice.threads.create())["thread_id"]
    runs = [await alice.runs.create(thread, "agent", **LATER) for _ in range(MOST)]

    async def streamed() -> None:
        async for _ in alice.runs.stream(thread, "agent", input={"messages": []}):
            pass

    async def batched() -> None:
        payload: Any = [{"assistant_id": "agent", **LATER}]
        await alice.runs.create_batch(payload)

    once: dict[str, Any] = {"input": {"messages": []}}
    ways: list[Awaitable[Any]] = [streamed(), batched(), alice.runs.wait(thread, "agent", **once)]
    ways += [alice.runs.wait(None, "agent", **once), alice.runs.create(None, "agent", **once)]
    assert await admitted(ways) == 0
    command = {"id": 1, "method": "run.start", "params": {"assistant_id": "agent", **once}}
    async with httpx.AsyncClient(base_url=bounded.url, headers=headers_of("alice")) as client:
        answer = (await client.post(f"/threads/{thread}/commands", json=command)).json()
    assert answer["type"] == "error"
    assert "No more than" in answer["message"]
    assert len(await alice.runs.list(thread, limit=100)) == MOST

    # What takes the place of others needs no more room than they had.
    await alice.runs.create(thread, "agent", multitask_strategy="interrupt", **LATER)
    await alice.runs.cancel(thread, (await alice.runs.list(thread, status="pending"))[0]["run_id"])
    payload: Any = [{"assistant_id": "agent", "on_completion": "keep", **LATER}] * (MOST + 1)
    with pytest.raises(APIStatusError, match="No more than"):
        await alice.runs.create_batch(payload)
    # All or none.
    assert len(await alice.threads.search(limit=1000)) == 1
    assert len(await alice.runs.create_batch(payload[:MOST])) == MOST
    assert len(runs) == MOST


async def test_a_user_has_so_many_crons_and_their_firings_count_as_runs(alice: LangGraphClient, database: str) -> None:
    thread = (await alice.threads.create())["thread_id"]
    for _ in range(MOST):
        await alice.runs.create(thread, "agent", **LATER)
    attempts = [alice.crons.create("agent", schedule="* * * * * *", input={"messages": []}) for _ in range(10)]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    made: list[Any] = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, APIStatusError)]
    assert (len(made), len(refused)) == (2, 8)
    assert {(each.status_code, each.response.json()["detail"]) for each in refused} == {
        (429, "No more than 2 crons are allowed.")
    }

    async with open_pool(database, size=2) as pool:

        async def said() -> Any:
            async with connection(pool) as conn:
                return await (await conn.execute(REASONS, (made[0]["cron_id"],))).fetchone()

        row = await eventually(said)
    assert row["reason"] == f"No more than {MOST} runs in flight are allowed."
    for cron in made:
        await alice.crons.delete(cron["cron_id"])
    again: Any = await alice.crons.create("agent", schedule="0 0 1 1 *")
    await alice.crons.delete(again["cron_id"])


async def test_a_signal_is_refused_as_a_request_is(bounded: Stack, alice: LangGraphClient, temporal: Client) -> None:
    thread = (await alice.threads.create())["thread_id"]
    for _ in range(MOST - 1):
        await alice.runs.create(thread, "agent", **LATER)
    user: dict[str, Any] = {"user": {"identity": "quota-alice"}, "config": {}, "after_seconds": 3600}
    last, one_more = (request_of(thread, "agent", **user) for _ in range(2))
    await signal(temporal, bounded, last)

    async def admitted() -> bool:
        return last.run_id in [run["run_id"] for run in await alice.runs.list(thread, limit=100)]

    await eventually(admitted)
    await signal(temporal, bounded, one_more)
    await refused(temporal, one_more)
    assert len(await alice.runs.list(thread, limit=100)) == MOST


async def test_what_a_node_starts_counts_for_whose_run_it_is(bounded: Stack, alice: LangGraphClient) -> None:
    found: Any = await alice.runs.wait(None, "inside", input={"wanted": MOST + 2})
    # The node's own run is one of them.
    assert found["answers"] == [200] * (MOST - 1) + [429] * 3
    async with client_of(bounded, headers_of("bob")) as bob:
        found = await bob.runs.wait(None, "inside", input={"wanted": 1})
    assert found["answers"] == [200]


async def test_a_refusal_for_a_quota_is_not_what_a_repeated_request_is_answered_for_good(
    alice: LangGraphClient,
) -> None:
    thread, key = (await alice.threads.create())["thread_id"], {"Idempotency-Key": str(uuid4())}
    for _ in range(MOST):
        await alice.runs.create(thread, "agent", **LATER)
    with pytest.raises(APIStatusError) as refused:
        await alice.runs.create(None, "agent", headers=key, **LATER)
    assert refused.value.status_code == 429
    await alice.threads.delete(thread)
    run = await alice.runs.create(None, "agent", headers=key, **LATER)
    assert await alice.runs.create(None, "agent", headers=key, **LATER) == run
    await alice.runs.cancel(run["thread_id"], run["run_id"])


async def test_no_command_of_the_protocol_starts_one_more(bounded: Stack, alice: LangGraphClient) -> None:
    asked, busy = (await alice.threads.create())["thread_id"], (await alice.threads.create())["thread_id"]
    await alice.runs.wait(asked, "human", input={"log": []})
    state: Any = await alice.threads.get_state(asked)
    for _ in range(MOST):
        await alice.runs.create(busy, "agent", **LATER)
    commands: dict[str, dict[str, Any]] = {
        "run.start": {"assistant_id": "human", "input": "yes"},
        "input.respond": {"interrupt_id": state["interrupts"][0]["id"], "response": "yes"},
        "input.inject": {"message": {"role": "user", "content": "hello"}},
        "state.fork": {"checkpoint_id": state["checkpoint"]["checkpoint_id"], "input": None},
    }
    async with httpx.AsyncClient(base_url=bounded.url, headers=headers_of("alice")) as http:
        for number, (method, params) in enumerate(commands.items()):
            command = {"id": number, "method": method, "params": params}
            answer = (await http.post(f"/threads/{asked}/commands", json=command)).json()
            assert answer == {
                "type": "error",
                "id": number,
                "error": "unknown_error",
                "message": f"No more than {MOST} runs in flight are allowed.",
            }
    # The question is open as before.
    assert (await alice.threads.get(asked))["status"] == "interrupted"
    await alice.threads.delete(busy)
    await alice.runs.wait(asked, "human", command={"resume": "yes"})


@pytest.mark.parametrize("quotas", [{"disk": 1}, {"bytes": "1 MB"}, {"runs": "10"}, {"runs": True}, {"crons": -1}, 10])
def test_a_quota_that_cannot_be_kept_is_refused(quotas: Any) -> None:
    with pytest.raises(ConfigError, match="quotas"):
        terms_of(parse({"quotas": quotas}))
