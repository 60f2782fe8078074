"""`Idempotency-Key`: whatever is sent again is done once, also if the server is killed in the midst of it."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, LiteralString
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from psycopg import sql

from durathread.db import idempotency
from durathread.db.idempotency import Key
from durathread.db.pool import Pool, connection, transaction
from durathread.embedded.engines import Engines
from durathread.errors import Unavailable
from tests.api.auth import headers_of
from tests.conftest import environment_of
from tests.eventually import eventually
from tests.runs.support import entered, lines
from tests.stack import Stack, running

LATER: dict[str, Any] = {"assistant_id": "agent", "input": {"log": []}, "after_seconds": 3600}
OTHER = {"detail": "This Idempotency-Key was given with another request: take another key, or send the same again."}
RUNS = "SELECT count(*) AS n FROM run WHERE metadata ->> 'mark' = %s"


@pytest.fixture
async def http(server: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """A client without the SDK's own repetitions."""
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as found:
        yield found


def keyed(key: str | None = None) -> dict[str, str]:
    """Return the header."""
    return {"Idempotency-Key": key or str(uuid4())}


async def one(pool: Pool, query: LiteralString, *args: Any) -> Any:
    """Read a row."""
    async with connection(pool) as conn:
        return await (await conn.execute(query, args)).fetchone()


def creations(thread: str, mark: str) -> dict[str, Any]:
    """Return a request of each kind that makes something, by its path; what is made carries the mark."""
    run = {**LATER, "metadata": {"mark": mark}}
    start = {"id": 7, "method": "run.start", "params": {"assistant_id": "agent", "metadata": {"mark": mark}}}
    return {
        f"/threads/{thread}/runs": run,
        "/runs": {**run, "on_completion": "keep"},
        "/runs/batch": [run, run],
        "/threads": {"metadata": {"mark": mark}},
        f"/threads/{thread}/copy": None,
        "/runs/crons": {"assistant_id": "agent", "schedule": "0 0 1 1 *", "metadata": {"mark": mark}},
        f"/threads/{thread}/runs/crons": {"assistant_id": "agent", "schedule": "0 0 1 1 *"},
        "/assistants": {"graph_id": "agent", "metadata": {"mark": mark}},
        f"/threads/{thread}/commands": start,
    }


async def test_each_request_that_makes_something_is_answered_again_as_it_was_and_makes_it_once(
    http: httpx.AsyncClient, client: LangGraphClient, pool: Pool
) -> None:
    thread, mark = (await client.threads.create())["thread_id"], str(uuid4())
    for path, body in creations(thread, mark).items():
        header = keyed()
        first = await http.post(path, json=body, headers=header)
        assert first.status_code == 200, first.text
        second = await http.post(path, json=body, headers=header)
        assert (second.status_code, second.json()) == (200, first.json())
        assert "idempotency-replayed" not in first.headers
        assert second.headers["idempotency-replayed"] == "true"
        assert second.headers.get("content-location") == first.headers.get("content-location")
        refused = await http.post(path, json={**LATER, "metadata": {"another": "body"}}, headers=header)
        assert (refused.status_code, refused.json()) == (422, OTHER)
    assert (await one(pool, RUNS, mark))["n"] == 5
    assert await client.threads.count(metadata={"mark": mark}) == 4
    assert await client.assistants.count(metadata={"mark": mark}) == 1
    crons: Any = await client.crons.search(metadata={"mark": mark})
    await client.crons.delete(crons[0]["cron_id"])
    await client.threads.delete(thread)


async def test_what_can_be_repeated_is_what_the_description_says(http: httpx.AsyncClient) -> None:
    paths: dict[str, Any] = (await http.get("/openapi.json")).json()["paths"]
    described = {
        path
        for path, methods in paths.items()
        for method in methods.values()
        if any(parameter["name"] == "Idempotency-Key" for parameter in method.get("parameters", []))
    }
    made = {path.replace("T", "{thread_id}") for path in creations("T", "")}
    streams = {"/runs/stream", "/runs/wait", "/threads/{thread_id}/runs/stream", "/threads/{thread_id}/runs/wait"}
    assert described == made | streams


async def test_of_many_at_once_one_makes_it_and_all_are_answered_alike(
    http: httpx.AsyncClient, client: LangGraphClient, pool: Pool
) -> None:
    thread, mark = (await client.threads.create())["thread_id"], str(uuid4())
    for path, body in creations(thread, mark).items():
        header = keyed()
        answers = await asyncio.gather(*(http.post(path, json=body, headers=header) for _ in range(8)))
        assert {answer.status_code for answer in answers} == {200}, (path, [answer.text for answer in answers])
        assert len({answer.text for answer in answers}) == 1, path
    assert (await one(pool, RUNS, mark))["n"] == 5
    crons: Any = await client.crons.search(metadata={"mark": mark})
    assert len(crons) == 1
    await client.crons.delete(crons[0]["cron_id"])
    await client.threads.delete(thread)


async def test_a_stream_and_a_wait_that_are_repeated_join_the_run(
    http: httpx.AsyncClient, client: LangGraphClient, tmp_path: Path
) -> None:
    thread, gate, trace = (await client.threads.create())["thread_id"], tmp_path / "gate", tmp_path / "trace"
    do = {"b": {"until": str(gate), "trace": str(trace)}}
    body = {"assistant_id": "agent", "input": {"log": ["in"], "do": do}, "stream_mode": "updates"}
    header, path = keyed(), f"/threads/{thread}/runs/stream"

    async def streamed() -> str:
        return (await http.post(path, json=body, headers=header)).text

    first = asyncio.create_task(streamed())
    await entered(trace)
    second = asyncio.create_task(streamed())
    waited = http.post(f"/threads/{thread}/runs/wait", json=body, headers=header)
    # Another path is another request: its run comes after the first.
    other = asyncio.create_task(waited)
    gate.touch()
    events = [line for line in (await first).splitlines() if line.startswith(("event:", "data:"))]
    assert [line for line in (await second).splitlines() if line.startswith(("event:", "data:"))] == events
    assert "event: updates" in events
    late = [line for line in (await streamed()).splitlines() if line.startswith(("event:", "data:"))]
    assert late == events
    output = (await other).json()
    assert output["log"] == ["in", "a", "b", "c"] * 2
    assert (await http.post(f"/threads/{thread}/runs/wait", json=body, headers=header)).json() == output
    assert len(lines(trace)) == 2
    assert len(await client.runs.list(thread)) == 2


async def test_a_key_is_its_users_and_its_routes(owners: Stack, server: Stack, client: LangGraphClient) -> None:
    header = keyed()
    async with httpx.AsyncClient(base_url=owners.url) as http:
        answers = [
            await http.post("/threads", json={}, headers={**headers_of(name), **header})
            for name in ("alice", "bob", "alice")
        ]
    made = [answer.json()["thread_id"] for answer in answers]
    assert made[0] == made[2] != made[1]
    async with httpx.AsyncClient(base_url=server.url) as http:
        one, other = [(await client.threads.create())["thread_id"] for _ in range(2)]
        started = [await http.post(f"/threads/{thread}/runs", json=LATER, headers=header) for thread in (one, other)]
    assert [answer.json()["thread_id"] for answer in started] == [one, other]
    for thread in (one, other):
        await client.threads.delete(thread)


async def test_a_refusal_is_kept_and_one_that_asks_for_another_try_is_not(
    http: httpx.AsyncClient, client: LangGraphClient
) -> None:
    thread, header = str(uuid4()), keyed()
    first = await http.post(f"/threads/{thread}/runs", json=LATER, headers=header)
    assert first.status_code == 404
    await client.threads.create(thread_id=thread)
    again = await http.post(f"/threads/{thread}/runs", json=LATER, headers=header)
    assert (again.status_code, again.json()) == (404, first.json())
    assert (await http.post(f"/threads/{thread}/runs", json=LATER, headers=keyed())).status_code == 200
    # A thread of this id is there already, as before; a command that has come to nothing may be tried again.
    header = keyed()
    for _ in range(2):
        assert (await http.post("/threads", json={"thread_id": thread}, headers=header)).status_code == 409
    command = {"id": 1, "method": "input.respond", "params": {"interrupt_id": "none", "response": 1}}
    for _ in range(2):
        answer = await http.post(f"/threads/{thread}/commands", json=command, headers=header)
        assert answer.json()["error"] == "no_such_interrupt"
        assert "idempotency-replayed" not in answer.headers
    await client.threads.delete(thread)


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "a\tb"])
async def test_what_is_no_key_is_refused(http: httpx.AsyncClient, key: str) -> None:
    answer = await http.post("/threads", json={}, headers={"Idempotency-Key": key})
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json()["detail"]


async def test_a_key_in_quotes_is_the_same_and_one_that_is_a_day_old_is_forgotten(
    http: httpx.AsyncClient, pool: Pool
) -> None:
    key = str(uuid4())
    first, quoted = [
        (await http.post("/threads", json={}, headers=keyed(text))).json()["thread_id"] for text in (key, f'"{key}"')
    ]
    assert first == quoted
    aged = "UPDATE idempotency SET created_at = now() - interval '25 hours' WHERE key = %s RETURNING 1 AS n"
    await one(pool, aged, key)
    second = await http.post("/threads", json={"metadata": {"another": "body"}}, headers=keyed(key))
    assert second.json()["thread_id"] != first
    await one(pool, aged, key)
    async with connection(pool) as conn:
        await idempotency.forget(conn)
    assert await one(pool, "SELECT 1 FROM idempotency WHERE key = %s", key) is None


async def test_what_is_gone_is_not_made_again(http: httpx.AsyncClient, client: LangGraphClient, pool: Pool) -> None:
    thread, header = (await client.threads.create())["thread_id"], keyed()
    run = (await http.post(f"/threads/{thread}/runs", json=LATER, headers=header)).json()
    # Its answer was never kept, as if the server had died.
    await one(pool, "UPDATE idempotency SET answer = NULL WHERE key = %s RETURNING 1 AS n", header["Idempotency-Key"])
    await client.runs.cancel(thread, run["run_id"], action="rollback")
    again = await http.post(f"/threads/{thread}/runs", json=LATER, headers=header)
    assert (again.status_code, again.json()) == (404, {"detail": "The run that this Idempotency-Key has made is gone."})
    assert await client.runs.list(thread) == []


async def test_what_came_to_nothing_is_made_under_another_name_since_temporal_may_have_heard_of_it(
    http: httpx.AsyncClient, client: LangGraphClient, pool: Pool
) -> None:
    thread, header = (await client.threads.create())["thread_id"], keyed()

    async def answer() -> str:
        body = {"assistant_id": "agent", "input": {"log": ["in"]}}
        return (await http.post(f"/threads/{thread}/runs", json=body, headers=header)).json()["run_id"]

    first = await answer()
    await client.runs.join(thread, first)
    # As if its signal had arrived after it was taken back: its thread has dealt with a run of this id.
    await client.runs.delete(thread, first)
    forgotten = "UPDATE idempotency SET answer = NULL WHERE key = %s RETURNING scope, key, seed"
    before = Key(**await one(pool, forgotten, header["Idempotency-Key"]))
    async with transaction(pool) as conn:
        await idempotency.take_back(conn, before)
    second = await answer()
    await asyncio.wait_for(client.runs.join(thread, second), 30)
    assert (await client.runs.get(thread, second))["status"] == "success"
    # A twin of the first is told to come again, and takes back nothing that is not its own.
    await one(pool, forgotten, header["Idempotency-Key"])
    async with transaction(pool) as conn:
        with pytest.raises(Unavailable):
            await idempotency.begin(conn, before)
        await idempotency.take_back(conn, before)
    assert await answer() == second
    assert [run["run_id"] for run in await client.runs.list(thread)] == [second]


@pytest.fixture
async def mortal(engine_set: Engines, database: str, tmp_path: Path) -> AsyncIterator[Stack]:
    """An API that may be killed."""
    assert database
    async with running(environment_of(engine_set, queue="mortal"), tmp_path / "logs", workers=0) as stack:
        yield stack


@pytest.mark.parametrize("column", ["made", "answer"])
async def test_what_is_sent_again_after_a_kill_is_made_once(mortal: Stack, pool: Pool, column: str) -> None:
    """Killed while it makes it, or when it has made it and has answered nobody."""
    header, mark = keyed(), str(uuid4())
    name = sql.Identifier(f"hold_{uuid4().hex}")
    hold = sql.SQL(
        "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.key = {key} AND NEW.{column} IS DISTINCT FROM OLD.{column} THEN PERFORM pg_advisory_xact_lock_shared(727); "
        "END IF; RETURN NEW; END $$; "
        "CREATE TRIGGER {name} BEFORE UPDATE ON idempotency FOR EACH ROW EXECUTE FUNCTION {name}()"
    ).format(name=name, key=sql.Literal(header["Idempotency-Key"]), column=sql.Identifier(column))
    waiting = "SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND objid = 727 AND NOT granted"
    async with httpx.AsyncClient(base_url=mortal.url, timeout=120) as http:
        thread = (await http.post("/threads", json={})).json()["thread_id"]
        requests = creations(thread, mark)

        async def lost(path: str, body: Any) -> None:
            with pytest.raises(httpx.TransportError):
                await http.post(path, json=body, headers=header)

        async with connection(pool) as conn, conn.transaction():
            await conn.execute("SELECT pg_advisory_xact_lock(727)")
            async with connection(pool) as other:
                await other.execute(hold, prepare=False)
            sent = asyncio.gather(*(lost(path, body) for path, body in requests.items()))

            async def held() -> bool:
                return (await one(pool, waiting))["n"] >= (len(requests) if column == "answer" else 1)

            await eventually(held)
            await mortal.kill("api")
            await sent
        async with connection(pool) as conn:
            await conn.execute(sql.SQL("DROP FUNCTION {} CASCADE").format(name))
        await mortal.start("api")
        await mortal.ready()
        answers = {path: await http.post(path, json=body, headers=header) for path, body in requests.items()}
        assert {answer.status_code for answer in answers.values()} == {200}, json.dumps(
            {path: answer.text for path, answer in answers.items()}
        )
        again = {path: await http.post(path, json=body, headers=header) for path, body in requests.items()}
        assert {path: answer.text for path, answer in again.items()} == {path: a.text for path, a in answers.items()}
        assert (await one(pool, RUNS, mark))["n"] == 5
        found = (await http.post("/runs/crons/search", json={"metadata": {"mark": mark}})).json()
        assert len(found) == 1
        await http.delete(f"/runs/crons/{found[0]['cron_id']}")
        assert (await http.post("/assistants/count", json={"metadata": {"mark": mark}})).json() == 1
        for made in (await http.post("/threads/search", json={"metadata": {"mark": mark}})).json():
            await http.delete(f"/threads/{made['thread_id']}")
        await http.delete(f"/threads/{thread}")
