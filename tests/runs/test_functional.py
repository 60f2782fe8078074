"""Graphs that are functions (`@entrypoint`, `@task`) on a server: double texting, questions, retries, crashes, time travel."""

from pathlib import Path
from typing import Any

import psycopg
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError, NotFoundError
from langgraph_sdk.schema import Run

from tests.eventually import eventually
from tests.runs.support import entered, is_there, lines, log_of, start, statuses

TASKS_STORED = "SELECT count(DISTINCT task_id) FROM checkpoint_writes WHERE thread_id = %s AND channel = '__return__'"


async def working(client: LangGraphClient, thread_id: str, trace: Path, gate: Path | None = None) -> Run:
    """Start a run, and return when its function is in the task b, which waits for a gate."""
    do = {"trace": str(trace), "until": {"b": str(gate or trace.with_name("never"))}}
    run = await start(client, thread_id, "r1", graph="steps", do=do)
    await entered(trace, times=2)
    return run


async def test_enqueue_runs_one_after_the_other(client: LangGraphClient, thread_id: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    first = await working(client, thread_id, tmp_path / "trace", gate)
    second = await start(client, thread_id, "r2", graph="steps")
    gate.touch()
    await client.runs.join(thread_id, second["run_id"])
    assert await log_of(client, thread_id) == ["r1", "a", "b", "c", "r2", "a", "b", "c"]
    assert await client.runs.join(thread_id, first["run_id"]) == {"log": ["r1", "a", "b", "c"]}


async def test_reject_refuses_a_second_run(client: LangGraphClient, thread_id: str, tmp_path: Path) -> None:
    first = await working(client, thread_id, tmp_path / "trace")
    with pytest.raises(ConflictError):
        await start(client, thread_id, "r2", graph="steps", multitask_strategy="reject")
    await client.runs.cancel(thread_id, first["run_id"], wait=True)
    again = await start(client, thread_id, "r3", graph="steps", multitask_strategy="reject")
    assert await client.runs.join(thread_id, again["run_id"]) == {"log": ["r3", "a", "b", "c"]}


async def test_interrupt_lets_the_new_run_begin_with_what_was_saved_before(
    client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    """A function saves when it returns: of one that was interrupted only its input's checkpoint is kept."""
    await client.runs.wait(thread_id, "steps", input={"log": ["r0"]}, if_not_exists="create")
    first = await working(client, thread_id, tmp_path / "trace")
    second = await start(client, thread_id, "r2", graph="steps", multitask_strategy="interrupt")
    await client.runs.join(thread_id, second["run_id"])
    assert await log_of(client, thread_id) == ["r0", "a", "b", "c", "r2", "a", "b", "c"]
    assert await statuses(client, thread_id) == ["success", "interrupted", "success"]
    assert (await client.threads.get(thread_id))["status"] == "idle"
    assert await client.runs.join(thread_id, first["run_id"]) == {"log": ["r0", "a", "b", "c"]}
    assert len(await client.threads.get_history(thread_id, limit=100)) == 5


async def test_rollback_leaves_nothing_of_the_old_run(client: LangGraphClient, thread_id: str, tmp_path: Path) -> None:
    first = await working(client, thread_id, tmp_path / "trace")
    second = await start(client, thread_id, "r2", graph="steps", multitask_strategy="rollback")
    assert await client.runs.join(thread_id, second["run_id"]) == {"log": ["r2", "a", "b", "c"]}
    with pytest.raises(NotFoundError):
        await client.runs.get(thread_id, first["run_id"])
    assert len(await client.threads.get_history(thread_id, limit=100)) == 2


async def test_a_cancelled_function_goes_on_with_the_tasks_that_it_has_not_done(
    client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    """`input: null` runs the function again; the task a, which had returned, is not."""
    trace, gate = tmp_path / "trace", tmp_path / "gate"
    first = await working(client, thread_id, trace, gate)
    await client.runs.cancel(thread_id, first["run_id"], wait=True)
    gate.touch()
    assert (await client.threads.get_state(thread_id))["next"] == ["steps"]
    assert await client.runs.wait(thread_id, "steps", input=None) == {"log": ["r1", "a", "b", "c"]}
    assert lines(trace) == ["a", "b", "b", "c"]


async def test_what_a_task_has_returned_and_stored_is_kept_when_its_function_is_cancelled_later(
    client: LangGraphClient, thread_id: str, tmp_path: Path, database: str
) -> None:
    trace, gate = tmp_path / "trace", tmp_path / "gate"
    do = {"trace": str(trace), "until": {"c": str(gate)}}
    first = await start(client, thread_id, "r1", graph="steps", do=do)
    await entered(trace, times=3)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as conn:

        async def stored() -> bool:
            found = await (await conn.execute(TASKS_STORED, (thread_id,))).fetchone()
            return found == (2,)

        await eventually(stored, what="what a and b have returned is stored")
    await client.runs.cancel(thread_id, first["run_id"], wait=True)
    gate.touch()
    assert await client.runs.wait(thread_id, "steps", input=None) == {"log": ["r1", "a", "b", "c"]}
    assert lines(trace) == ["a", "b", "c", "c"]


async def test_a_function_whose_run_has_ended_is_stopped_when_its_next_task_returns(
    client: LangGraphClient, thread_id: str, tmp_path: Path, database: str
) -> None:
    """Nobody tells the worker: its write is refused, and nothing that was refused is gone on from."""
    trace, gate, ended = tmp_path / "trace", tmp_path / "gate", tmp_path / "ended"
    do = {"trace": str(trace), "until": {"b": str(gate), "c": str(tmp_path / "never")}, "ended": str(ended)}
    run = await start(client, thread_id, "r1", graph="steps", do=do)
    await entered(trace, times=2)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as conn:
        await conn.execute("UPDATE run SET status = 'interrupted' WHERE run_id = %s", (run["run_id"],))
    gate.touch()
    await entered(trace, times=3)

    async def cancelled() -> bool:
        return is_there(ended)

    await eventually(cancelled, what="c was cancelled")


async def test_a_first_run_that_asks_answers_wait_and_join_with_its_question(
    client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    """There is no value yet, but a question there is."""
    trace = tmp_path / "trace"
    given: Any = {"log": ["in"], "do": {"asks": "which?", "trace": str(trace)}}
    asked: Any = await client.runs.wait(thread_id, "steps", input=given, if_not_exists="create")
    assert [each["value"] for each in asked["__interrupt__"]] == [{"question": "which?"}]
    run = (await client.runs.list(thread_id))[0]
    joined: Any = await client.runs.join(thread_id, run["run_id"])
    assert [each["value"] for each in joined["__interrupt__"]] == [{"question": "which?"}]
    thread = await client.threads.get(thread_id)
    assert (thread["status"], len(thread["interrupts"])) == ("interrupted", 1)
    state: Any = await client.threads.get_state(thread_id)
    assert (state["next"], [each["value"] for each in state["interrupts"]]) == (["steps"], [{"question": "which?"}])
    answered: Any = await client.runs.wait(thread_id, "steps", command={"resume": "this"})
    assert answered == {"log": ["in", "a", "this", "b", "c"]}
    assert lines(trace) == ["a", "b", "c"]
    # The first run has left its question, whatever came after.
    assert await client.runs.join(thread_id, run["run_id"]) == joined
    assert (await client.threads.get(thread_id))["status"] == "idle"


async def test_a_stateless_run_and_a_stream_show_the_question_too(client: LangGraphClient, thread_id: str) -> None:
    given: Any = {"log": ["in"], "do": {"asks": "which?"}}
    asked: Any = await client.runs.wait(None, "steps", input=given)
    assert [each["value"] for each in asked["__interrupt__"]] == [{"question": "which?"}]
    parts = [
        part
        async for part in client.runs.stream(
            thread_id, "steps", input=given, stream_mode=["values", "updates"], if_not_exists="create"
        )
    ]
    assert any("__interrupt__" in (part.data or {}) for part in parts if part.event in ("values", "updates"))


async def test_a_function_of_texts_takes_and_returns_texts(client: LangGraphClient, thread_id: str) -> None:
    """What is no object is shown as it is, wherever it is shown."""
    asked: Any = await client.runs.wait(thread_id, "texts", input=untyped("abc"), if_not_exists="create")
    assert [each["value"] for each in asked["__interrupt__"]] == ["sure?"]
    answered: Any = await client.runs.wait(thread_id, "texts", command={"resume": "!"})
    assert answered == "ABC!"
    assert (await client.threads.get_state(thread_id))["values"] == untyped("ABC!")
    assert (await client.threads.get(thread_id))["values"] == untyped("ABC!")
    again: Any = await client.runs.wait(thread_id, "texts", input=untyped("def"))
    assert [each["value"] for each in again["__interrupt__"]] == ["sure?"]


def untyped(given: Any) -> Any:
    """Give the SDK what its types do not know of."""
    return given


async def test_what_is_saved_is_previous_and_not_what_is_returned(client: LangGraphClient, thread_id: str) -> None:
    returned = [
        await client.runs.wait(thread_id, "saving", input=untyped(number), if_not_exists="create")
        for number in (1, 2, 3)
    ]
    assert returned == [0, 2, 4]


async def test_a_task_that_fails_is_tried_again_as_its_policy_says(
    client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    given: Any = {"do": {"flaky": True, "trace": str(trace)}}
    values: Any = await client.runs.wait(thread_id, "steps", input=given, if_not_exists="create")
    assert values["log"] == ["a", "b", "c", "flaky"]
    assert lines(trace) == ["a", "b", "c", "flaky", "flaky", "flaky"]


async def test_a_function_streams_what_it_streams_in_process(client: LangGraphClient, thread_id: str) -> None:
    modes: Any = ["values", "updates", "custom", "tasks"]
    parts = [
        part
        async for part in client.runs.stream(
            thread_id, "steps", input={"log": ["in"]}, stream_mode=modes, if_not_exists="create"
        )
    ]
    assert [part.data for part in parts if part.event == "custom"] == [{"done": name} for name in "abc"]
    final = {"log": ["in", "a", "b", "c"]}
    assert [part.data for part in parts if part.event == "updates"] == [
        *({"work": name} for name in "abc"),
        {"steps": final},
    ]
    assert [part.data for part in parts if part.event == "values"] == [final]
    names = [part.data["name"] for part in parts if part.event == "tasks"]
    assert names == ["steps", *["work"] * 6, "steps"]


async def test_the_state_of_a_function_can_be_updated_and_gone_back_to(client: LangGraphClient, thread_id: str) -> None:
    for label in ("r1", "r2"):
        await client.runs.wait(thread_id, "steps", input={"log": [label]}, if_not_exists="create")
    history: Any = await client.threads.get_history(thread_id, limit=10)
    first = next(state for state in history if state["values"] == {"log": ["r1", "a", "b", "c"]} and not state["next"])
    forked: Any = await client.runs.wait(
        thread_id, "steps", input={"log": ["fork"]}, checkpoint_id=first["checkpoint"]["checkpoint_id"]
    )
    assert forked == {"log": ["r1", "a", "b", "c", "fork", "a", "b", "c"]}
    await client.threads.update_state(thread_id, {"log": ["edited"]})
    assert await log_of(client, thread_id) == ["edited"]
    after: Any = await client.runs.wait(thread_id, "steps", input={"log": ["r3"]})
    assert after == {"log": ["edited", "r3", "a", "b", "c"]}
