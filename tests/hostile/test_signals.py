"""Temporal is beside the API, and asks nobody who they are: what a signal may do where users are authenticated."""

from typing import Any
from uuid import uuid4

from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError
from temporalio.client import Client

from durathread.workflows.messages import RunRequest, ThreadState
from tests.api.auth import client_of
from tests.api.auth import headers_of as owner
from tests.eventually import eventually
from tests.stack import Stack
from tests.workflows.support import details

CLAIM: Any = {"configurable": {"user_id": "alice", "langgraph_auth_user": {"identity": "alice"}}}


def request_of(thread_id: str, graph: str, **payload: Any) -> RunRequest:
    """Describe a run as a signal does."""
    payload = {"input": {}, "if_not_exists": "create", "config": CLAIM, **payload}
    return RunRequest(run_id=str(uuid4()), thread_id=thread_id, assistant_id=graph, payload=payload)


async def signal(temporal: Client, server: Stack, request: RunRequest, *, to: str | None = None) -> None:
    """Signal a thread, started if need be."""
    queue = server.environment["DURATHREAD_TASK_QUEUE"]
    workflow_id = f"thread/{to or request.thread_id}"
    await temporal.start_workflow(
        "Thread", ThreadState(), id=workflow_id, task_queue=queue, start_signal="new_run", start_signal_args=[request]
    )


async def refused(temporal: Client, request: RunRequest, *, by: str | None = None) -> None:
    """Wait until a thread has refused a run."""

    async def is_it() -> bool:
        return f"`{request.run_id}` refused" in await details(temporal, f"thread/{by or request.thread_id}")

    await eventually(is_it)


async def test_a_signal_starts_no_run_where_users_are_authenticated(
    readme: Stack, alice: LangGraphClient, temporal: Client
) -> None:
    thread_id = (await alice.threads.create())["thread_id"]
    request = request_of(thread_id, "agent")
    await signal(temporal, readme, request)
    await refused(temporal, request)
    assert await alice.runs.list(thread_id) == []


async def test_a_signal_makes_no_thread_either(readme: Stack, alice: LangGraphClient, temporal: Client) -> None:
    request = request_of(str(uuid4()), "agent", metadata={"owner": "readme-alice"})
    await signal(temporal, readme, request)
    await refused(temporal, request)
    assert await alice.threads.search(ids=[request.thread_id]) == []


async def test_where_it_may_a_signal_names_its_user(owners: Stack, temporal: Client) -> None:
    request = request_of(str(uuid4()), "who", user={"identity": "bob", "permissions": ["x"]}, metadata={"owner": "bob"})
    await signal(temporal, owners, request)
    async with client_of(owners, owner("bob")) as bob:
        seen = await _seen(bob, request)
    assert (seen["user_id"], seen["id"], seen["permissions"]) == ("bob", "bob", ["x"])


async def test_a_signal_that_names_no_user_works_for_nobody(owners: Stack, temporal: Client) -> None:
    request = request_of(str(uuid4()), "who", metadata={"owner": "alice"})
    await signal(temporal, owners, request)
    async with client_of(owners, owner("alice")) as user:
        seen = await _seen(user, request)
    assert (seen["user_id"], seen["id"], seen["user"]) == ("", "", None)


async def test_a_workflow_that_starts_with_a_run_for_anothers_thread_is_refused(
    server: Stack, client: LangGraphClient, temporal: Client
) -> None:
    victim, other = (await client.threads.create())["thread_id"], str(uuid4())
    request = request_of(victim, "agent")
    state = ThreadState(arrivals=[request])
    queue = server.environment["DURATHREAD_TASK_QUEUE"]
    await temporal.start_workflow("Thread", state, id=f"thread/{other}", task_queue=queue)
    await refused(temporal, request, by=other)
    assert await client.runs.list(victim) == []


async def test_a_signal_stops_nothing_before_its_run_is_admitted(
    server: Stack, client: LangGraphClient, temporal: Client
) -> None:
    """Only an admission says what it supersedes."""
    thread_id = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread_id, "agent", input={"log": []}, after_seconds=3600)
    request = RunRequest(str(uuid4()), thread_id, "no such graph", supersedes=[run["run_id"]], payload={})
    await signal(temporal, server, request)
    await refused(temporal, request)
    handle = temporal.get_workflow_handle(f"thread/{thread_id}")
    assert await handle.query("queue") == [run["run_id"]]
    await client.threads.delete(thread_id)


async def _seen(client: LangGraphClient, request: RunRequest) -> Any:
    async def over() -> Any:
        try:
            await client.runs.get(request.thread_id, request.run_id)
        except NotFoundError:
            return None
        await client.runs.join(request.thread_id, request.run_id)
        return await client.threads.get_state(request.thread_id)

    found = (await eventually(over))["values"]["seen"]
    await client.threads.delete(request.thread_id)
    return found
