"""Runs from their request to their end: fields, output, errors, cancellation, deletion, stateless ones."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import BadRequestError, ConflictError, NotFoundError, UnprocessableEntityError

from tests.eventually import eventually
from tests.runs.support import entered, joining, lines, log_of, start, status_becomes, statuses
from tests.stack import Stack

AGENT = "fe096781-5601-53d2-b2f6-0d3403f7e9ca"


async def test_a_run_has_the_fields_of_the_contract(client: LangGraphClient, thread_id: str) -> None:
    run: Any = await start(client, thread_id, "in", metadata={"k": "v", "run_id": "forged"}, config={"tags": ["t"]})
    assert run["status"] == "pending"
    assert run["assistant_id"] == AGENT
    assert run["multitask_strategy"] == "enqueue"
    assert run["metadata"] == {
        "k": "v",
        "created_by": "system",
        "assistant_id": AGENT,
        "graph_id": "agent",
    }
    kwargs = run["kwargs"]
    assert kwargs["stream_mode"] == ["values"]
    assert kwargs["config"]["tags"] == ["t"]
    assert UUID(kwargs["config"]["configurable"].pop("langgraph_request_id"))
    assert kwargs["config"]["configurable"] == {
        "run_id": run["run_id"],
        "thread_id": thread_id,
        "graph_id": "agent",
        "assistant_id": AGENT,
    }
    assert set(kwargs) >= {
        "input",
        "command",
        "context",
        "webhook",
        "subgraphs",
        "resumable",
        "durability",
        "temporary",
    }
    await client.runs.join(thread_id, run["run_id"])
    ended = await client.runs.get(thread_id, run["run_id"])
    assert ended["status"] == "success"
    assert ended["created_at"] == run["created_at"]
    assert ended["updated_at"] > run["updated_at"]


async def test_a_thread_is_busy_while_a_run_is_in_flight(
    client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "b"
    run = await start(client, thread_id, "in", do={"b": {"trace": str(trace), "until": str(gate)}})
    thread: Any = await client.threads.get(thread_id)
    assert (thread["status"], thread["values"]) == ("busy", None)
    assert thread["metadata"] == {"graph_id": "agent", "assistant_id": AGENT}
    await entered(trace)
    assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "running"
    gate.touch()
    await client.runs.join(thread_id, run["run_id"])
    thread = await client.threads.get(thread_id)
    assert (thread["status"], thread["values"]["log"]) == ("idle", ["in", "a", "b", "c"])
    assert (thread["interrupts"], thread["error"]) == ({}, None)


async def test_an_error_is_shown_and_can_be_retried(client: LangGraphClient, thread_id: str, tmp_path: Path) -> None:
    failing = {"b": {"fail": "boom"}}
    result: Any = await client.runs.wait(
        thread_id, "agent", input={"log": ["in"], "do": failing}, if_not_exists="create", raise_error=False
    )
    assert result == {"__error__": {"error": "ValueError", "message": "boom"}}
    thread: Any = await client.threads.get(thread_id)
    assert (thread["status"], thread["error"]) == ("error", {"error": "ValueError", "message": "boom"})
    assert thread["values"]["log"] == ["in", "a"]
    [run] = await client.runs.list(thread_id)
    assert run["status"] == "error"
    await client.threads.update_state(thread_id, {"do": {}}, as_node="a")
    await client.runs.wait(thread_id, "agent", input=None)
    assert await log_of(client, thread_id) == ["in", "a", "b", "c"]


async def test_errors_found_at_execution_are_the_runs_own(client: LangGraphClient, thread_id: str) -> None:
    await client.threads.create(thread_id=thread_id)
    empty: Any = await client.runs.wait(thread_id, "agent", input=None, raise_error=False)
    assert empty["__error__"]["error"] == "EmptyInputError"
    limited: Any = await client.runs.wait(
        thread_id, "agent", input={"log": ["in"]}, config={"recursion_limit": 2}, raise_error=False
    )
    assert limited["__error__"]["error"] == "GraphRecursionError"
    with pytest.raises(Exception, match="GraphRecursionError"):
        await client.runs.wait(thread_id, "agent", input={"log": ["in"]}, config={"recursion_limit": 2})
    for too_low in (0, -1):
        with pytest.raises(Exception, match="ValueError: recursion_limit must be at least 1"):
            await client.runs.wait(thread_id, "agent", input={"log": ["in"]}, config={"recursion_limit": too_low})


async def test_cancel_interrupts_and_a_null_input_goes_on(
    client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "b"
    run = await start(client, thread_id, "r1", do={"b": {"trace": str(trace), "until": str(gate)}})
    await entered(trace)
    await client.runs.cancel(thread_id, run["run_id"], wait=True)
    gate.touch()
    thread: Any = await client.threads.get(thread_id)
    assert thread["status"] == "interrupted"
    assert thread["error"]["error"] == "UserInterrupt"
    assert thread["values"]["log"] == ["r1", "a"]
    ended = await client.runs.get(thread_id, run["run_id"])
    assert ended["status"] == "interrupted"
    assert str(ended.get("cancel_reason")).startswith("interrupt requested via POST")
    result: Any = await client.runs.wait(thread_id, "agent", input=None)
    assert result["log"] == ["r1", "a", "b", "c"]


async def test_cancel_without_waiting_settles_the_thread(
    client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    trace = tmp_path / "b"
    run = await start(client, thread_id, "r1", do={"b": {"trace": str(trace), "sleep": 60}})
    await entered(trace)
    await client.runs.cancel(thread_id, run["run_id"])
    await status_becomes(client, thread_id, "interrupted")


async def test_a_cancelled_rollback_leaves_an_idle_thread(
    client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    trace = tmp_path / "b"
    run = await start(client, thread_id, "r1", do={"b": {"trace": str(trace), "sleep": 60}})
    await entered(trace)
    await client.runs.cancel(thread_id, run["run_id"], action="rollback")
    await status_becomes(client, thread_id, "idle")
    with pytest.raises(NotFoundError):
        await client.runs.get(thread_id, run["run_id"])
    assert await client.threads.get_history(thread_id) == []


async def test_cancelling_a_queued_run_leaves_the_running_one_alone(
    client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "b"
    first = await start(client, thread_id, "r1", do={"b": {"trace": str(trace), "until": str(gate)}})
    await entered(trace)
    second = await start(client, thread_id, "r2")
    await client.runs.cancel(thread_id, second["run_id"], wait=True)
    assert (await client.threads.get(thread_id))["status"] == "busy"
    gate.touch()
    await client.runs.join(thread_id, first["run_id"])
    assert await log_of(client, thread_id) == ["r1", "a", "b", "c"]
    assert (await client.runs.get(thread_id, second["run_id"]))["status"] == "interrupted"


@pytest.mark.parametrize("wait", [False, True])
async def test_a_queued_run_that_is_rolled_back_is_deleted_whoever_waits_for_it(
    client: LangGraphClient, server: Stack, thread_id: str, tmp_path: Path, wait: bool
) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "b"
    first = await start(client, thread_id, "r1", do={"b": {"trace": str(trace), "until": str(gate)}})
    await entered(trace)
    second = await start(client, thread_id, "r2")
    async with joining(server.url, thread_id, second["run_id"]) as joined:
        await client.runs.cancel(thread_id, second["run_id"], action="rollback", wait=wait)
        assert orjson.loads(await joined.aread()) == {}
    with pytest.raises(NotFoundError):
        await client.runs.get(thread_id, second["run_id"])
    assert (await client.threads.get(thread_id))["status"] == "busy"
    gate.touch()
    await client.runs.join(thread_id, first["run_id"])
    assert (await client.threads.get(thread_id))["status"] == "idle"


async def test_what_cannot_be_cancelled_is_not_found(client: LangGraphClient, thread_id: str) -> None:
    run = await start(client, thread_id, "in")
    await client.runs.join(thread_id, run["run_id"])
    with pytest.raises(NotFoundError):
        await client.runs.cancel(thread_id, run["run_id"])
    with pytest.raises(NotFoundError):
        await client.runs.cancel(thread_id, thread_id)


async def test_a_run_in_flight_cannot_be_deleted_an_ended_one_can(
    client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    trace = tmp_path / "b"
    run = await start(client, thread_id, "in", do={"b": {"trace": str(trace), "sleep": 60}})
    await entered(trace)
    with pytest.raises(ConflictError):
        await client.runs.delete(thread_id, run["run_id"])
    await client.runs.cancel(thread_id, run["run_id"], wait=True)
    await client.runs.delete(thread_id, run["run_id"])
    assert await client.threads.get_history(thread_id) == []
    with pytest.raises(NotFoundError):
        await client.runs.delete(thread_id, run["run_id"])


async def test_lists_are_newest_first_filtered_and_paged(client: LangGraphClient, thread_id: str) -> None:
    runs = [await start(client, thread_id, f"r{n}") for n in range(3)]
    await client.runs.join(thread_id, runs[-1]["run_id"])
    ids = [run["run_id"] for run in await client.runs.list(thread_id)]
    assert ids == [run["run_id"] for run in reversed(runs)]
    assert [run["run_id"] for run in await client.runs.list(thread_id, limit=1, offset=1)] == [ids[1]]
    assert await client.runs.list(thread_id, status="error") == []
    [chosen, *_] = await client.runs.list(thread_id, select=["run_id", "status"])
    assert set(chosen) == {"run_id", "status"}
    with pytest.raises(NotFoundError):
        await client.runs.list(runs[0]["run_id"])


async def test_exit_durability_leaves_one_checkpoint(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "agent", input={"log": ["in"]}, if_not_exists="create", durability="exit")
    assert len(await client.threads.get_history(thread_id, limit=10)) == 1
    assert await log_of(client, thread_id) == ["in", "a", "b", "c"]


@pytest.mark.parametrize("wait", [True, False])
async def test_a_cancelled_run_of_exit_durability_leaves_where_it_was(
    client: LangGraphClient, thread_id: str, tmp_path: Path, wait: bool
) -> None:
    gate, do = tmp_path / "gate", {name: {"trace": str(tmp_path / name)} for name in "abc"}
    do["b"]["until"] = str(gate)
    run = await start(client, thread_id, "in", do=do, durability="exit")
    await entered(tmp_path / "b")
    await client.runs.cancel(thread_id, run["run_id"], wait=wait)
    await status_becomes(client, thread_id, "interrupted")
    [state] = await client.threads.get_history(thread_id)
    assert state["next"] == ["b"]
    assert await log_of(client, thread_id) == ["in", "a"]
    thread: Any = await client.threads.get(thread_id)
    assert thread["values"]["log"] == ["in", "a"]
    gate.touch()
    result: Any = await client.runs.wait(thread_id, "agent", input=None)
    assert result["log"] == ["in", "a", "b", "c"]
    assert len(lines(tmp_path / "a")) == 1


async def test_time_travel_runs_from_a_checkpoint(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "agent", input={"log": ["in"]}, if_not_exists="create")
    history = await client.threads.get_history(thread_id)
    at_b = next(state for state in history if state["next"] == ["b"])
    checkpoint_id: Any = at_b["checkpoint"]["checkpoint_id"]
    await client.runs.wait(thread_id, "agent", input=None, checkpoint_id=checkpoint_id)
    assert await log_of(client, thread_id) == ["in", "a", "b", "c"]
    assert len(await client.threads.get_history(thread_id, limit=100)) == 8
    checkpoint: Any = {"checkpoint_id": checkpoint_id}
    result: Any = await client.runs.wait(thread_id, "agent", input={"log": ["fork"]}, checkpoint=checkpoint)
    assert result["log"] == ["in", "a", "fork", "a", "b", "c"]


async def test_a_stateless_run_answers_and_is_gone(client: LangGraphClient) -> None:
    result: Any = await client.runs.wait(None, "agent", input={"log": ["in"]})
    assert result["log"] == ["in", "a", "b", "c"]
    parts = [part.event async for part in client.runs.stream(None, "agent", input={"log": ["in"]})]
    # Older SDKs know no `end`, and are sent none.
    assert [event for event in parts if event != "end"] == ["metadata", *["values"] * 4]
    run = await client.runs.create(None, "agent", input={"log": ["in"]})

    async def gone() -> bool:
        try:
            await client.threads.get(run["thread_id"])
        except NotFoundError:
            return True
        return False

    await eventually(gone)
    with pytest.raises(NotFoundError):
        await client.runs.get(run["thread_id"], run["run_id"])


async def test_a_stateless_run_can_keep_its_thread(client: LangGraphClient) -> None:
    run = await client.runs.create(None, "agent", input={"log": ["in"]}, on_completion="keep")
    await client.runs.join(run["thread_id"], run["run_id"])
    assert await log_of(client, run["thread_id"]) == ["in", "a", "b", "c"]


async def test_a_stateless_stream_can_be_joined_again(client: LangGraphClient, server: Stack) -> None:
    async with httpx.AsyncClient(base_url=server.url) as http:
        body = {"assistant_id": "agent", "input": {"log": ["in"]}, "stream_resumable": True}
        first = await http.post("/runs/stream", json=body)
        run_path = first.headers["content-location"]
        again = await http.get(f"{run_path}/stream", headers={"Last-Event-ID": "-1"})
        located = await http.get(first.headers["location"], headers={"Last-Event-ID": "-1"})
    assert run_path.startswith("/runs/")
    assert again.content == located.content == first.content


async def test_requests_that_contradict_themselves_are_refused(client: LangGraphClient, thread_id: str) -> None:
    both: Any = {"config": {"configurable": {"a": 1}}, "context": {"b": 2}}
    with pytest.raises(BadRequestError):
        await client.runs.create(thread_id, "agent", input={}, if_not_exists="create", **both)
    with pytest.raises(BadRequestError):
        await client.runs.create(None, "agent", command={"resume": "x"})
    with pytest.raises(UnprocessableEntityError):
        await client.runs.create(thread_id, "nobody", input={}, if_not_exists="create")
    with pytest.raises(NotFoundError):
        await client.runs.create(thread_id, thread_id, input={}, if_not_exists="create")
    # Nothing was half done.
    with pytest.raises(NotFoundError):
        await client.threads.get(thread_id)


@pytest.mark.parametrize(
    "given",
    [
        {"checkpoint_id": AGENT},
        {"checkpoint": {"checkpoint_id": AGENT}},
        {"config": {"configurable": {"checkpoint_id": AGENT}}},
    ],
    ids=str,
)
async def test_a_run_from_an_unknown_checkpoint_is_refused(
    client: LangGraphClient, thread_id: str, given: Any, tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError, match=f"Checkpoint {AGENT} not found"):
        await client.runs.create(thread_id, "agent", input={"log": ["in"]}, if_not_exists="create", **given)
    # The thread was not made either.
    with pytest.raises(NotFoundError):
        await client.threads.get(thread_id)
    gate = tmp_path / "gate"
    run = await start(client, thread_id, "in", do={"b": {"until": str(gate)}})
    with pytest.raises(NotFoundError, match=f"Checkpoint {AGENT} not found"):
        await client.runs.create(thread_id, "agent", input={"log": ["new"]}, multitask_strategy="rollback", **given)
    gate.touch()
    await client.runs.join(thread_id, run["run_id"])
    # Nor was the run in flight rolled back.
    assert await log_of(client, thread_id) == ["in", "a", "b", "c"]
    assert await statuses(client, thread_id) == ["success"]


@pytest.mark.parametrize("nowhere", [None, ""])
async def test_a_run_from_no_checkpoint_goes_on_from_the_latest(
    client: LangGraphClient, thread_id: str, nowhere: str | None
) -> None:
    await client.runs.wait(thread_id, "agent", input={"log": ["in"]}, if_not_exists="create")
    config: Any = {"configurable": {"checkpoint_id": nowhere}}
    result: Any = await client.runs.wait(thread_id, "agent", input={"log": ["more"]}, config=config)
    assert result["log"] == ["in", "a", "b", "c", "more", "a", "b", "c"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 422),
        (b"", 422),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"assistant_id": 1}', 422),
        (b'{"assistant_id": "agent", "config": null}', 422),
        (b'{"assistant_id": "agent", "multitask_strategy": "maybe"}', 422),
        (b'{"assistant_id": "agent", "interrupt_before": "b"}', 422),
        (b'{"assistant_id": "agent", "checkpoint_id": "x"}', 422),
        (b'{"assistant_id": "agent", "config": {"configurable": {"checkpoint_id": "x"}}}', 422),
        (b'{"assistant_id": "agent", "config": {"configurable": {"checkpoint_id": 5}}}', 422),
        (b'{"assistant_id": "agent", "context": {"checkpoint_id": "x"}}', 422),
        (b'{"assistant_id": "agent", "stream_mode": ["nonsense"]}', 422),
        (b'{"assistant_id": "agent", "after_seconds": "1"}', 422),
        (b'{"assistant_id": "agent", "stream_resumable": "true"}', 422),
        (b'{"assistant_id": "agent", "config": {"recursion_limit": "5"}}', 422),
        (b'{"assistant_id": "agent", "config": {"recursion_limit": true}}', 422),
        (b'{"assistant_id": "agent", "config": {"metadata": 1}}', 422),
        (b'{"assistant_id": "agent", "config": {"metadata": "x"}}', 422),
        (b'{"assistant_id": "agent", "config": {"metadata": [1]}}', 422),
        (b'{"assistant_id": "agent", "after_seconds": "soon"}', 422),
        (b'{"assistant_id": "agent"}', 404),
    ],
)
async def test_bad_bodies_get_a_clear_answer(thread_id: str, server: Stack, body: bytes, status: int) -> None:
    async with httpx.AsyncClient(base_url=server.url) as http:
        for path in ("runs", "runs/stream", "runs/wait"):
            response = await http.post(f"/threads/{thread_id}/{path}", content=body)
            assert response.status_code == status
            assert list(response.json()) == ["detail"]
            assert isinstance(response.json()["detail"], str)


async def test_a_body_is_read_as_json_whatever_its_type(thread_id: str, server: Stack) -> None:
    body = b'{"assistant_id": "agent", "input": {"log": ["nul \\u0000"]}, "if_not_exists": "create"}'
    async with httpx.AsyncClient(base_url=server.url) as http:
        response = await http.post(
            f"/threads/{thread_id}/runs/wait", content=body, headers={"content-type": "text/plain;charset=UTF-8"}
        )
    assert response.status_code == 200
    assert response.json()["log"] == ["nul \ufffd", "a", "b", "c"]


async def test_many_threads_run_side_by_side(client: LangGraphClient, thread_id: str, tmp_path: Path) -> None:
    """A busy thread does not hold up others."""
    threads, gate = [f"{thread_id[:-2]}{n:02d}" for n in range(10)], tmp_path / "gate"
    busy = [await start(client, threads[0], f"q{n}", do={"b": {"until": str(gate)}}) for n in range(5)]
    results: Any = await asyncio.gather(
        *(client.runs.wait(thread, "agent", input={"log": [thread]}, if_not_exists="create") for thread in threads[1:])
    )
    assert [result["log"] for result in results] == [[thread, "a", "b", "c"] for thread in threads[1:]]
    assert (await client.runs.get(threads[0], busy[-1]["run_id"]))["status"] == "pending"
    gate.touch()
    await client.runs.join(threads[0], busy[-1]["run_id"])
