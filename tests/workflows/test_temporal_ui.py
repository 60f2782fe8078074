"""What people see, and may do, in the Temporal UI."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionStatus

from durathread.graphs.registry import system_assistant_id
from durathread.temporal.connection import ASSISTANT_ID, GRAPH_ID, RUN_STATUS, THREAD_ID
from tests.eventually import eventually
from tests.runs.support import entered, log_of, start, status_becomes
from tests.stack import Stack
from tests.workflows.support import attribute, closed, described, details, shown, steps, supersteps

AGENT = str(system_assistant_id("agent"))


async def works(client: LangGraphClient, thread_id: str, trace: Path, **kwargs: Any) -> str:
    """Start a run, and return its id when it is in node b, where it stays."""
    run = await start(client, thread_id, "r1", do={"b": {"trace": str(trace), "sleep": 30}}, **kwargs)
    await entered(trace)
    return run["run_id"]


async def is_usable(client: LangGraphClient, thread_id: str, log: list[str]) -> None:
    """Check that a thread takes another run, on top of what it has."""
    result: Any = await client.runs.wait(thread_id, "agent", input={"log": ["next"], "do": {}})
    assert result["log"] == [*log, "next", "a", "b", "c"]
    assert (await client.threads.get(thread_id))["status"] == "idle"


async def run_becomes(client: LangGraphClient, thread_id: str, run_id: str, status: str) -> None:
    async def is_it() -> bool:
        return (await client.runs.get(thread_id, run_id))["status"] == status

    await eventually(is_it, what=f"run is {status}")


async def test_a_run_that_succeeds_is_completed_and_says_what_it_was(
    client: LangGraphClient, thread_id: str, temporal: Client
) -> None:
    run = await start(client, thread_id, "r1", multitask_strategy="reject")
    await client.runs.join(thread_id, run["run_id"])
    found = await closed(temporal, f"run/{run['run_id']}")
    assert shown(found) == (WorkflowExecutionStatus.COMPLETED, None)
    assert await found.static_summary() == "agent · reject"
    assert found.workflow_type == "Run"
    assert found.parent_id == f"thread/{thread_id}"
    for workflow_id in (f"run/{run['run_id']}", f"thread/{thread_id}"):
        found = await described(temporal, workflow_id)
        assert found is not None
        keys = (THREAD_ID, ASSISTANT_ID, GRAPH_ID)
        assert [attribute(found, key) for key in keys] == [thread_id, AGENT, "agent"]
    thread = await described(temporal, f"thread/{thread_id}")
    assert thread is not None
    assert (thread.workflow_type, thread.status) == ("Thread", WorkflowExecutionStatus.RUNNING)


async def _is(asked: Awaitable[set[str]], expected: set[str]) -> bool:
    return await asked == expected


async def test_workflows_are_found_by_their_search_attributes(
    client: LangGraphClient, thread_id: str, temporal: Client, tmp_path: Path
) -> None:
    run = await start(client, thread_id, "r1")
    await client.runs.join(thread_id, run["run_id"])

    async def found(query: str) -> set[str]:
        return {workflow.id async for workflow in temporal.list_workflows(f"ThreadId = '{thread_id}' AND {query}")}

    async def indexed() -> bool:
        succeeded = "WorkflowType = 'Run' AND ExecutionStatus = 'Completed' AND RunStatus IS NULL"
        return await found(succeeded) == {f"run/{run['run_id']}"}

    await eventually(indexed)
    both = {f"run/{run['run_id']}", f"thread/{thread_id}"}
    assert await found("GraphId = 'agent'") == both
    assert await found(f"AssistantId = '{AGENT}'") == both
    assert await found("RunStatus = 'error'") == set()
    failed = await start(client, thread_id, "r2", do={"b": {"fail": "boom"}})
    stopped = await works(client, thread_id, tmp_path / "b")
    works_now = {f"run/{stopped}"}
    await eventually(lambda: _is(found("WorkflowType = 'Run' AND ExecutionStatus = 'Running'"), works_now))
    assert await found("RunStatus = 'interrupted'") == set()
    await client.runs.cancel(thread_id, stopped, wait=True)
    await eventually(lambda: _is(found("RunStatus = 'error'"), {f"run/{failed['run_id']}"}))
    await eventually(lambda: _is(found("RunStatus = 'interrupted'"), works_now))


async def test_a_run_that_succeeds_writes_no_search_attribute_after_its_start(
    client: LangGraphClient, thread_id: str, temporal: Client
) -> None:
    run = await start(client, thread_id, "r1")
    await client.runs.join(thread_id, run["run_id"])
    await closed(temporal, f"run/{run['run_id']}")
    for workflow in (f"run/{run['run_id']}", f"thread/{thread_id}"):
        history = await temporal.get_workflow_handle(workflow).fetch_history()
        kinds = {event.event_type for event in history.events}
        assert EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES not in kinds


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ("agent", ["a", "b", "c"]),
        ("five", ["s1", "s2", "s3", "s4", "s5"]),
        ("parallel", ["fast, slow", "done"]),
        ("nested_chat", ["sub", "last"]),
    ],
)
async def test_each_superstep_is_shown_with_the_names_of_its_nodes(
    client: LangGraphClient, thread_id: str, temporal: Client, graph: str, expected: list[str]
) -> None:
    given: Any = {"messages": [{"role": "user", "content": "hi"}]} if graph == "nested_chat" else {"log": ["in"]}
    run = await client.runs.create(thread_id, graph, input=given, if_not_exists="create")
    await client.runs.join(thread_id, run["run_id"])
    await closed(temporal, f"run/{run['run_id']}")
    ran = await supersteps(temporal, run["run_id"])
    assert [nodes for step in ran for nodes in step] == expected
    assert await steps(temporal, run["run_id"]) == [step[0] for step in ran]
    listed = (await details(temporal, f"run/{run['run_id']}")).splitlines()
    assert [re.sub(r" \(\d+\.\d{3} s\)$", "", line) for line in listed] == [f"- {nodes}" for nodes in expected]


async def test_a_run_without_checkpoints_in_between_is_one_activity(
    client: LangGraphClient, thread_id: str, temporal: Client
) -> None:
    run = await start(client, thread_id, "r1", durability="exit")
    await client.runs.join(thread_id, run["run_id"])
    await closed(temporal, f"run/{run['run_id']}")
    assert await steps(temporal, run["run_id"]) == ["a"]


async def test_an_interrupted_run_is_shown_as_canceled(
    client: LangGraphClient, thread_id: str, temporal: Client, tmp_path: Path
) -> None:
    run_id = await works(client, thread_id, tmp_path / "b")
    second = await start(client, thread_id, "r2", multitask_strategy="interrupt")
    await client.runs.join(thread_id, second["run_id"])
    assert shown(await closed(temporal, f"run/{run_id}")) == (WorkflowExecutionStatus.CANCELED, "interrupted")
    found = await closed(temporal, f"run/{second['run_id']}")
    assert await found.static_summary() == "agent · interrupt"


async def test_a_run_that_is_interrupted_right_after_its_creation_is_shown_as_canceled(
    client: LangGraphClient, thread_id: str, temporal: Client, tmp_path: Path
) -> None:
    await client.threads.create(thread_id=thread_id)
    gate = tmp_path / "gate"
    do = {"b": {"until": str(gate)}}
    runs = await asyncio.gather(
        *(start(client, thread_id, f"r{n}", do=do, multitask_strategy="interrupt") for n in range(10))
    )
    gate.touch()
    await status_becomes(client, thread_id, "idle")
    outcomes = {run["run_id"]: (await client.runs.get(thread_id, run["run_id"]))["status"] for run in runs}
    assert sorted(outcomes.values()) == ["interrupted"] * 9 + ["success"]
    for run_id, status in outcomes.items():
        # One that was interrupted before its turn has no workflow.
        if await described(temporal, f"run/{run_id}"):
            expected = {
                "success": (WorkflowExecutionStatus.COMPLETED, None),
                "interrupted": (WorkflowExecutionStatus.CANCELED, "interrupted"),
            }
            assert shown(await closed(temporal, f"run/{run_id}")) == expected[status]


async def test_a_run_that_is_rolled_back_says_so(
    client: LangGraphClient, thread_id: str, temporal: Client, tmp_path: Path
) -> None:
    first = await works(client, thread_id, tmp_path / "b1")
    await client.runs.cancel(thread_id, first, wait=True, action="rollback")
    assert shown(await closed(temporal, f"run/{first}")) == (WorkflowExecutionStatus.CANCELED, "rollback")
    second = await works(client, thread_id, tmp_path / "b2")
    third = await start(client, thread_id, "r3", multitask_strategy="rollback")
    await client.runs.join(thread_id, third["run_id"])
    assert shown(await closed(temporal, f"run/{second}")) == (WorkflowExecutionStatus.CANCELED, "rollback")
    with pytest.raises(NotFoundError):
        await client.runs.get(thread_id, second)


async def test_a_run_whose_graph_fails_is_completed_as_an_error(
    client: LangGraphClient, thread_id: str, temporal: Client
) -> None:
    run = await start(client, thread_id, "r1", do={"b": {"fail": "boom"}})
    await status_becomes(client, thread_id, "error")
    found = await closed(temporal, f"run/{run['run_id']}")
    assert shown(found) == (WorkflowExecutionStatus.COMPLETED, "error")
    assert [nodes for step in await supersteps(temporal, run["run_id"]) for nodes in step] == ["a", "b"]


async def test_a_threads_details_name_what_runs_what_waits_and_what_has_ended(
    client: LangGraphClient, thread_id: str, temporal: Client, tmp_path: Path
) -> None:
    done = await start(client, thread_id, "r0")
    await client.runs.join(thread_id, done["run_id"])
    working = await works(client, thread_id, tmp_path / "b")
    queued = await start(client, thread_id, "q1")
    later = await start(client, thread_id, "q2", after_seconds=60)
    workflow_id = f"thread/{thread_id}"

    async def told() -> bool:
        return await temporal.get_workflow_handle(workflow_id).query("queue") == [queued["run_id"], later["run_id"]]

    await eventually(told)
    text = await details(temporal, workflow_id)
    running, _, rest = text.partition("**Queued**")
    waiting, _, over = rest.partition("**Ended**")
    assert f"**Running** `{working}` (agent · enqueue)" in running
    assert [waiting.index(run["run_id"]) for run in (queued, later)] == sorted(
        waiting.index(run["run_id"]) for run in (queued, later)
    )
    assert f"`{done['run_id']}` success" in over
    # The last first: none gets its turn meanwhile.
    for run_id in (later["run_id"], queued["run_id"], working):
        await client.runs.cancel(thread_id, run_id, wait=True)

    async def settled() -> bool:
        text = await details(temporal, workflow_id)
        ends = [f"`{run_id}` interrupted" in text for run_id in (working, queued["run_id"], later["run_id"])]
        return all(ends) and "Running" not in text and "Queued" not in text

    await eventually(settled)


async def test_a_run_cancelled_in_temporal_ends_as_interrupted(
    client: LangGraphClient, thread_id: str, temporal: Client, tmp_path: Path
) -> None:
    run_id = await works(client, thread_id, tmp_path / "b")
    joining = asyncio.create_task(client.runs.join(thread_id, run_id))
    await temporal.get_workflow_handle(f"run/{run_id}").cancel()
    await run_becomes(client, thread_id, run_id, "interrupted")
    joined: Any = await joining
    assert joined["log"] == ["r1", "a"]
    assert shown(await closed(temporal, f"run/{run_id}")) == (WorkflowExecutionStatus.CANCELED, "interrupted")
    await status_becomes(client, thread_id, "interrupted")
    await is_usable(client, thread_id, ["r1", "a"])


async def test_a_run_terminated_in_temporal_ends_as_an_error(
    client: LangGraphClient, thread_id: str, temporal: Client, tmp_path: Path
) -> None:
    run_id = await works(client, thread_id, tmp_path / "b")
    await temporal.get_workflow_handle(f"run/{run_id}").terminate("test")
    await run_becomes(client, thread_id, run_id, "error")
    await status_becomes(client, thread_id, "error")
    thread: Any = await client.threads.get(thread_id)
    assert thread["error"]["error"] == "TerminatedError"
    joined: Any = await client.runs.join(thread_id, run_id)
    assert joined["__error__"]["error"] == "TerminatedError"
    await is_usable(client, thread_id, ["r1", "a"])


async def test_a_thread_whose_workflow_was_terminated_finishes_its_run_and_takes_others(
    client: LangGraphClient, thread_id: str, temporal: Client, tmp_path: Path
) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "b"
    run = await start(client, thread_id, "r1", do={"b": {"trace": str(trace), "until": str(gate)}})
    await entered(trace)
    await temporal.get_workflow_handle(f"thread/{thread_id}").terminate("test")
    gate.touch()
    result: Any = await client.runs.join(thread_id, run["run_id"])
    assert result["log"] == ["r1", "a", "b", "c"]
    await is_usable(client, thread_id, ["r1", "a", "b", "c"])


@pytest.fixture
async def impatient(server: Stack, tmp_path: Path) -> AsyncIterator[Stack]:
    """An API beside the server's, whose runs may take two seconds."""
    beside = Stack({**server.environment, "BG_JOB_TIMEOUT_SECS": "2"}, tmp_path / "logs")
    try:
        await beside.start("api")
        await beside.ready()
        yield beside
    finally:
        await beside.stop("api")


async def test_a_run_that_takes_too_long_times_out(
    impatient: Stack, thread_id: str, temporal: Client, tmp_path: Path
) -> None:
    async with get_client(url=impatient.url) as client:
        run_id = await works(client, thread_id, tmp_path / "b", stream_resumable=True)
        joining = asyncio.create_task(client.runs.join(thread_id, run_id))
        parts = [part async for part in client.runs.join_stream(thread_id, run_id)]
        error = {"error": "TimeoutError", "message": ""}
        assert [(part.event, part.data) for part in parts[-2:]] == [
            ("error", error),
            ("end", {"run_id": run_id, "status": "timeout"}),
        ]
        joined: Any = await joining
        assert joined["__error__"] == error
        again: Any = await client.runs.join(thread_id, run_id)
        assert again["__error__"] == error
        assert (await client.runs.get(thread_id, run_id))["status"] == "timeout"
        thread: Any = await client.threads.get(thread_id)
        assert (thread["status"], thread["error"]) == ("error", error)
        assert await log_of(client, thread_id) == ["r1", "a"]
        found = await closed(temporal, f"run/{run_id}")
        assert found.status is WorkflowExecutionStatus.TIMED_OUT
        await is_usable(client, thread_id, ["r1", "a"])


async def test_the_status_of_a_run_is_not_shown_on_its_thread(
    client: LangGraphClient, thread_id: str, temporal: Client
) -> None:
    """Else a search for failed runs would find threads."""
    run = await start(client, thread_id, "r1")
    await client.runs.join(thread_id, run["run_id"])
    thread = await described(temporal, f"thread/{thread_id}")
    assert thread is not None
    assert attribute(thread, RUN_STATUS) is None
