"""Runs that are started or cancelled many at once."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import BadRequestError, NotFoundError, UnprocessableEntityError

from tests.eventually import eventually
from tests.runs.support import entered, lines, log_of, start, status_becomes, statuses
from tests.stack import Stack

NOBODY = "deadbeef-0000-4000-8000-000000000000"


def payload(mark: str, trace: Path, **kwargs: Any) -> Any:
    """Build a run that leaves a trace."""
    return {
        "assistant_id": "agent",
        "input": {"log": [mark], "do": {"a": {"trace": str(trace)}}},
        "metadata": {"mark": mark},
        "on_completion": "keep",
        **kwargs,
    }


async def working(client: LangGraphClient, thread_id: str, trace: Path) -> str:
    """Start a run, and return when it is in node b."""
    run = await start(client, thread_id, "r1", do={"b": {"trace": str(trace), "sleep": 30}})
    await entered(trace)
    return run["run_id"]


async def test_a_batch_runs_each_on_a_thread_of_its_own(client: LangGraphClient, tmp_path: Path) -> None:
    runs: Any = await client.runs.create_batch([payload(f"r{n}", tmp_path / "a") for n in range(3)])
    assert [run["status"] for run in runs] == ["pending"] * 3
    assert len({run["thread_id"] for run in runs}) == 3
    for number, run in enumerate(runs):
        await client.runs.join(run["thread_id"], run["run_id"])
        assert await log_of(client, run["thread_id"]) == [f"r{number}", "a", "b", "c"]
    assert len(lines(tmp_path / "a")) == 3


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"assistant_id": "nobody"}, UnprocessableEntityError),
        ({"assistant_id": NOBODY}, NotFoundError),
        ({"input": {}}, UnprocessableEntityError),
        ({"assistant_id": "agent", "stream_mode": "nonsense"}, UnprocessableEntityError),
        ({"assistant_id": "agent", "command": {"resume": 1}}, BadRequestError),
        ({"assistant_id": "agent", "config": {"configurable": {"a": 1}}, "context": {"b": 1}}, BadRequestError),
    ],
)
async def test_a_batch_with_a_bad_run_starts_none(
    client: LangGraphClient, tmp_path: Path, bad: Any, error: type[Exception]
) -> None:
    mark = uuid4().hex
    with pytest.raises(error):
        await client.runs.create_batch([payload(mark, tmp_path / "a"), bad, payload(mark, tmp_path / "a")])
    assert await client.threads.search(metadata={"mark": mark}) == []
    # A run that comes later has been through the same queue.
    [run] = await client.runs.create_batch([payload(mark, tmp_path / "later")])
    await client.runs.join(run["thread_id"], run["run_id"])
    assert lines(tmp_path / "a") == []


async def test_a_batch_has_at_least_one_run(client: LangGraphClient) -> None:
    with pytest.raises(UnprocessableEntityError):
        await client.runs.create_batch([])


async def test_runs_are_cancelled_by_their_ids(client: LangGraphClient, thread_id: str, tmp_path: Path) -> None:
    first = await working(client, thread_id, tmp_path / "b")
    second, third = [(await start(client, thread_id, label))["run_id"] for label in ("r2", "r3")]
    answer: Any = await client.runs.cancel_many(thread_id=thread_id, run_ids=[first, third, NOBODY])
    assert answer is None
    await client.runs.join(thread_id, second)
    assert await statuses(client, thread_id) == ["interrupted", "success", "interrupted"]
    assert await log_of(client, thread_id) == ["r1", "a", "r2", "a", "b", "c"]


async def test_rollback_of_many_deletes_them(client: LangGraphClient, thread_id: str, tmp_path: Path) -> None:
    first = await working(client, thread_id, tmp_path / "b")
    second = (await start(client, thread_id, "r2"))["run_id"]
    await client.runs.cancel_many(thread_id=thread_id, run_ids=[first, second], action="rollback")
    assert await statuses(client, thread_id) == []
    await status_becomes(client, thread_id, "idle")
    assert await client.threads.get_history(thread_id) == []


async def test_runs_of_a_status_are_cancelled_on_all_threads(client: LangGraphClient, tmp_path: Path) -> None:
    threads = [str(uuid4()) for _ in range(2)]
    for number, thread_id in enumerate(threads):
        await working(client, thread_id, tmp_path / str(number))
        await start(client, thread_id, "r2")
    await client.runs.cancel_many(status="pending")
    for thread_id in threads:
        assert await statuses(client, thread_id) == ["running", "interrupted"]
    with pytest.raises(NotFoundError):
        await client.runs.cancel_many(status="pending")
    await client.runs.cancel_many(status="running")
    for thread_id in threads:
        assert await statuses(client, thread_id) == ["interrupted", "interrupted"]
        await status_becomes(client, thread_id, "interrupted")


async def test_a_worker_stops_what_was_cancelled_by_status(
    client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    await working(client, thread_id, tmp_path / "b")
    await client.runs.cancel_many(status="all")
    run = await start(client, thread_id, "r2", do={"a": {"trace": str(tmp_path / "a")}})
    await client.runs.join(thread_id, run["run_id"])
    assert await log_of(client, thread_id) == ["r1", "a", "r2", "a", "b", "c"]

    async def settled() -> bool:
        return await statuses(client, thread_id) == ["interrupted", "success"]

    await eventually(settled, what="the cancelled run stays interrupted")


async def test_what_has_ended_or_never_was_is_not_found(client: LangGraphClient, server: Stack, thread_id: str) -> None:
    run = await start(client, thread_id, "r1")
    await client.runs.join(thread_id, run["run_id"])
    for run_ids in ([run["run_id"]], [NOBODY]):
        with pytest.raises(NotFoundError):
            await client.runs.cancel_many(thread_id=thread_id, run_ids=run_ids)
    with pytest.raises(NotFoundError):
        await client.runs.cancel_many(thread_id=NOBODY, run_ids=[run["run_id"]])
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.post("/runs/cancel", json={"thread_id": thread_id, "run_ids": []})
    assert answer.status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"thread_id": NOBODY},
        {"run_ids": [NOBODY]},
        {"status": "all", "thread_id": NOBODY, "run_ids": [NOBODY]},
        {"status": "all", "run_ids": [NOBODY]},
        {"status": "success"},
        {"thread_id": "x", "run_ids": [NOBODY]},
        {"thread_id": NOBODY, "run_ids": ["x"]},
    ],
)
async def test_either_a_status_or_ids_must_be_named(server: Stack, body: dict[str, Any]) -> None:
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.post("/runs/cancel", json=body)
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)
