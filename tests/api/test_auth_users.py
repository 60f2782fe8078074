"""Who somebody is: what `authenticate` gets, what it may return, and what graphs see of it."""

from collections.abc import AsyncIterator
from typing import Any, cast
from uuid import uuid4

import httpx
import psycopg
import pytest
from langgraph_sdk.client import LangGraphClient

from durathread.users import User
from tests.api.auth import client_of, headers_of, script
from tests.stack import Stack

ALICE = {
    "identity": "alice",
    "display_name": "Alice",
    "permissions": ["chat"],
    "org": {"name": "acme"},
    "is_authenticated": True,
}
SEEN = {
    "user": ALICE,
    "attribute": "alice",
    "key": "alice",
    "runtime": "alice",
    "id": "alice",
    "user_id": "alice",
    "permissions": ["chat"],
}


def seen_in(values: Any) -> dict[str, Any]:
    """Return what the graph `who` has seen."""
    return values["seen"]


async def test_a_graph_sees_in_whose_name_it_works(alice: LangGraphClient) -> None:
    assert seen_in(await alice.runs.wait(None, "who", input={})) == SEEN
    thread = await alice.threads.create()
    run = await alice.runs.create(thread["thread_id"], "who", input={})
    assert seen_in(await alice.runs.join(thread["thread_id"], run["run_id"])) == SEEN
    kept: Any = {"assistant_id": "who", "input": {}, "on_completion": "keep"}
    [first] = await alice.runs.create_batch([kept])
    assert seen_in(await alice.runs.join(first["thread_id"], first["run_id"])) == SEEN
    values = [part.data async for part in alice.runs.stream(None, "who", input={}) if part.event == "values"]
    assert seen_in(values[-1]) == SEEN


async def test_nobody_can_say_that_they_are_somebody_else(alice: LangGraphClient) -> None:
    bob = {"identity": "bob"}
    said: Any = {
        "langgraph_auth_user": bob,
        "langgraph_auth_user_id": "bob",
        "langgraph_auth_permissions": ["all"],
        "user_id": "bob",
    }
    assert seen_in(await alice.runs.wait(None, "who", input={}, config={"configurable": said})) == SEEN
    assert seen_in(await alice.runs.wait(None, "who", input={}, context=said)) == SEEN
    thread = await alice.threads.create()
    made = await alice.assistants.create("who", config={"configurable": said})
    assert seen_in(await alice.runs.wait(thread["thread_id"], made["assistant_id"], input={})) == SEEN
    assert seen_in(await alice.runs.wait(thread["thread_id"], "who", input={})) == SEEN


async def test_a_stream_does_not_say_who_asked(alice: LangGraphClient) -> None:
    modes: Any = ["debug", "checkpoints", "tasks"]
    parts = [part async for part in alice.runs.stream(None, "agent", input={"log": []}, stream_mode=modes)]
    assert len(parts) > 5
    assert all("langgraph_auth" not in str(part.data) and "acme" not in str(part.data) for part in parts)


async def test_a_run_does_not_show_what_is_known_of_its_user(alice: LangGraphClient) -> None:
    thread = await alice.threads.create()
    made = await alice.runs.create(thread["thread_id"], "who", input={})
    for run in (
        made,
        await alice.runs.get(thread["thread_id"], made["run_id"]),
        *await alice.runs.list(thread["thread_id"]),
    ):
        configurable = cast(Any, run)["kwargs"]["config"]["configurable"]
        assert (configurable["langgraph_auth_user_id"], configurable["user_id"]) == ("alice", "alice")
        assert "acme" not in str(run)


async def user_of(server: Stack, path: str, body: Any) -> dict[str, Any]:
    """Send a run, and return the user that its graph sees."""
    async with httpx.AsyncClient(
        base_url=server.url, headers={**script(), "user-agent": "tests/1"}, timeout=30
    ) as http:
        answer = await http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["seen"]["user"]


async def test_authenticate_gets_what_it_asks_for(scripted: Stack) -> None:
    body = {"assistant_id": "who", "input": {}, "if_not_exists": "create"}
    thread_id = str(uuid4())
    path = f"/threads/{thread_id}/runs/wait"
    user = await user_of(scripted, path, body)
    given = {"body": body, "method": "POST", "path": path, "path_params": {"thread_id": thread_id}}
    assert (user["given"], user["agent"]) == (given, "tests/1")
    user = await user_of(scripted, "/runs/wait", body)
    assert user["given"]["path_params"] == {}


async def test_a_body_that_authenticate_has_read_reaches_its_route(scripted: Stack) -> None:
    text = "x" * 3_000_000
    async with client_of(scripted, script()) as client:
        thread = await client.threads.create(metadata={"text": text})
    assert cast(Any, thread["metadata"])["text"] == text


async def test_a_body_that_is_too_large_is_so_for_authenticate_too(scripted: Stack) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(310):
            yield b" " * 1024 * 1024

    async with httpx.AsyncClient(base_url=scripted.url, headers=script(), timeout=60) as http:
        answer = await http.post("/threads", content=endless())
    assert (answer.status_code, list(answer.json())) == (413, ["detail"])


@pytest.mark.parametrize(
    ("said", "identity", "permissions"),
    [
        ("carol", "carol", []),
        ({"identity": "carol", "permissions": ["a"]}, "carol", ["a"]),
        ({"identity": 7}, "7", []),
    ],
)
async def test_a_user_is_what_authenticate_returns(
    scripted: Stack, said: Any, identity: str, permissions: list[str]
) -> None:
    said = said if isinstance(said, dict) else {"identity": said}
    async with client_of(scripted, script(user=said)) as client:
        seen = seen_in(await client.runs.wait(None, "who", input={}))
    assert (seen["id"], seen["attribute"], seen["user_id"]) == (identity, identity, identity)
    assert seen["permissions"] == permissions


async def test_users_do_not_meet_on_one_connection(owners: Stack) -> None:
    async with httpx.AsyncClient(base_url=owners.url) as http:
        for name in ("alice", "bob", "alice"):
            answer = await http.post("/threads", json={}, headers=headers_of(name))
            assert answer.json()["metadata"]["owner"] == name
        assert (await http.post("/threads", json={})).status_code == 401


async def test_without_an_auth_nobody_is_asked(client: LangGraphClient) -> None:
    thread = await client.threads.create()
    run = await client.runs.create(thread["thread_id"], "agent", input={"log": []})
    configurable = cast(Any, run)["kwargs"]["config"]["configurable"]
    assert not [key for key in configurable if key.startswith(("langgraph_auth", "user"))]
    mine = {"configurable": {"user_id": "mine"}}
    run = await client.runs.create(thread["thread_id"], "agent", input={"log": []}, config=cast(Any, mine))
    assert cast(Any, run)["kwargs"]["config"]["configurable"]["user_id"] == "mine"


async def test_nobody_is_called_anybody(scripted: Stack) -> None:
    """As a label of a namespace it would stand for everybody's."""
    async with httpx.AsyncClient(base_url=scripted.url) as http:
        assert (await http.post("/threads", json={}, headers=script(user={"identity": "*"}))).status_code == 500


async def test_two_authorizations_are_one_too_many(scripted: Stack) -> None:
    both = [
        ("authorization", script()["authorization"]),
        ("authorization", script(user={"identity": "x"})["authorization"]),
    ]
    async with httpx.AsyncClient(base_url=scripted.url, headers=both) as http:
        refused = await http.post("/threads", json={})
    assert (refused.status_code, refused.json()) == (400, {"detail": "There is more than one Authorization header"})


async def test_what_lets_a_user_in_is_not_stored(scripted: Stack, database: str) -> None:
    user = {
        "identity": "x",
        "access_token": "t0p",
        "org": {"name": "acme", "apiKey": "t0p"},
        "keys": [{"Secret": "t0p"}],
    }
    async with client_of(scripted, script(user=user)) as client:
        thread = (await client.threads.create())["thread_id"]
        run = await client.runs.create(thread, "agent", input={"log": []}, after_seconds=3600)
        with psycopg.connect(database) as conn:
            query = "SELECT kwargs -> 'config' -> 'configurable' -> 'langgraph_auth_user' FROM run WHERE run_id = %s"
            row = conn.execute(query, [run["run_id"]]).fetchone()
        await client.threads.delete(thread)
    assert row
    assert (row[0]["identity"], row[0]["org"], row[0]["keys"]) == ("x", {"name": "acme"}, [{}])
    assert "access_token" not in row[0]


def test_the_fields_that_are_stored_can_be_named() -> None:
    user = User.of({"identity": "x", "token": "t", "org": "acme", "plan": "free"})
    kept = user.kept(["token", "org"])
    assert set(kept) == {"identity", "display_name", "is_authenticated", "permissions", "token", "org"}
