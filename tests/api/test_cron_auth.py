"""Whose a cron is, and in whose name it fires."""

from pathlib import Path
from typing import Any, cast

import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError, PermissionDeniedError
from temporalio.client import Client

from tests.api.auth import client_of, script
from tests.runs.crons import YEARLY, create, fire
from tests.stack import Stack


async def test_a_cron_is_its_owners(alice: LangGraphClient, bob: LangGraphClient) -> None:
    cron = await create(alice, metadata={"team": "a"})
    assert (cron["user_id"], cron["metadata"]) == ("alice", {"team": "a", "owner": "alice"})
    assert [found["cron_id"] for found in await alice.crons.search()] == [cron["cron_id"]]
    assert await alice.crons.count() == 1
    assert await bob.crons.search() == []
    assert await bob.crons.count() == 0
    for call in (
        bob.http.get(f"/runs/crons/{cron['cron_id']}"),
        bob.crons.update(cron["cron_id"], enabled=False),
        bob.crons.delete(cron["cron_id"]),
    ):
        with pytest.raises(NotFoundError):
            await call
    assert await alice.http.get(f"/runs/crons/{cron['cron_id']}") == cron
    given: Any = await alice.crons.update(cron["cron_id"], metadata={"owner": "bob"})
    assert given["metadata"]["owner"] == "alice"
    await alice.crons.delete(cron["cron_id"])


async def test_a_cron_needs_a_thread_and_an_assistant_that_are_its_owners(
    alice: LangGraphClient, bob: LangGraphClient
) -> None:
    thread_id = (await alice.threads.create())["thread_id"]
    assistant_id = (await alice.assistants.create("agent"))["assistant_id"]
    with pytest.raises(NotFoundError):
        await bob.crons.create_for_thread(thread_id, "agent", schedule=YEARLY)
    with pytest.raises(NotFoundError):
        await bob.crons.create(assistant_id, schedule=YEARLY)
    assert await alice.crons.count(thread_id=thread_id) == 0


async def test_a_cron_fires_in_the_name_of_its_owner(
    alice: LangGraphClient, bob: LangGraphClient, temporal: Client
) -> None:
    cron: Any = await alice.crons.create(
        "who", schedule=YEARLY, input={}, on_run_completed="keep", metadata={"owner": "bob"}
    )
    fired = await fire(temporal, cron["cron_id"])
    values = cast(dict[str, Any], await alice.runs.join(fired.thread_id, fired.run_id))
    assert values["seen"]["user"]["display_name"] == "Alice"
    assert (values["seen"]["id"], values["seen"]["permissions"]) == ("alice", ["chat"])
    thread = await alice.threads.get(fired.thread_id)
    assert (thread["metadata"] or {})["owner"] == "alice"
    with pytest.raises(NotFoundError):
        await bob.threads.get(fired.thread_id)


async def test_what_a_handler_stamps_on_runs_is_on_those_of_crons(scripted: Stack, temporal: Client) -> None:
    rules = {"threads.create_run": {"stamp": {"tenant": "t1"}}}
    async with client_of(scripted, script(on=rules)) as client:
        cron = await create(client, on_run_completed="keep", metadata={"tenant": "t2"})
        fired = await fire(temporal, cron["cron_id"])
        run = await client.runs.get(fired.thread_id, fired.run_id)
        thread = await client.threads.get(fired.thread_id)
    assert (run["metadata"] or {})["tenant"] == "t1"
    assert (thread["metadata"] or {})["tenant"] == "t1"


@pytest.mark.parametrize(
    ("action", "call"),
    [
        ("crons.create", lambda client: create(client)),
        ("threads.create_run", lambda client: create(client)),
        ("crons.search", lambda client: client.crons.search()),
        ("crons.search", lambda client: client.crons.count()),
        ("crons.read", lambda client: client.http.get("/runs/crons/00000000-0000-7000-8000-000000000000")),
        ("crons.update", lambda client: client.crons.update("00000000-0000-7000-8000-000000000000", enabled=True)),
        ("crons.delete", lambda client: client.crons.delete("00000000-0000-7000-8000-000000000000")),
    ],
)
async def test_a_handler_may_forbid(scripted: Stack, action: str, call: Any) -> None:
    async with client_of(scripted, script(on={action: {"return": False}})) as client:
        with pytest.raises(PermissionDeniedError):
            await call(client)


async def test_a_handler_may_change_what_is_created(scripted: Stack) -> None:
    rules = {"crons.create": {"set": {"schedule": "0 7 * * *"}, "stamp": {"tenant": "t1"}}}
    async with client_of(scripted, script(on=rules)) as client:
        cron = await create(client)
        assert (cron["schedule"], cron["metadata"]) == ("0 7 * * *", {"tenant": "t1"})
        await client.crons.delete(cron["cron_id"])


async def test_a_cron_fires_as_long_as_its_owner_may_start_runs(
    scripted: Stack, temporal: Client, tmp_path: Path
) -> None:
    gate = tmp_path / "dismissed"
    headers = script(user={"identity": "x"}, on={"threads.create_run": {"if": str(gate)}})
    async with client_of(scripted, headers) as user:
        cron = await create(user)
        assert (await fire(temporal, cron["cron_id"])).status == "admitted"
        gate.touch()
        refused = await fire(temporal, cron["cron_id"], 2)
        assert (refused.status, refused.reason) == ("refused", "Forbidden")
        await user.crons.delete(cron["cron_id"])
