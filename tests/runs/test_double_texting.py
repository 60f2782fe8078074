"""The four strategies: what becomes of the old run, of the new one, and of their thread."""

from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError, NotFoundError

from tests.eventually import eventually
from tests.runs.support import entered, log_of, reached, start, status_becomes, statuses

WORKING = {"b": {"sleep": 30}}


async def checkpoints(client: LangGraphClient, thread_id: str) -> list[Any]:
    return await client.threads.get_history(thread_id, limit=100)


async def working(client: LangGraphClient, thread_id: str, trace: Path) -> Any:
    """Start a run, and return when it is in node b."""
    run = await start(client, thread_id, "r1", do={"b": {"trace": str(trace), "sleep": 30}})
    await entered(trace)
    return run


async def test_enqueue_runs_one_after_the_other(client: LangGraphClient, thread_id: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    first = await start(client, thread_id, "r1", do={"b": {"until": str(gate)}})
    second = await start(client, thread_id, "r2", do={})
    assert second["multitask_strategy"] == "enqueue"
    gate.touch()
    await client.runs.join(thread_id, second["run_id"])
    assert await log_of(client, thread_id) == ["r1", "a", "b", "c", "r2", "a", "b", "c"]
    assert (await client.runs.get(thread_id, first["run_id"]))["status"] == "success"


async def test_enqueued_runs_keep_their_order(client: LangGraphClient, thread_id: str) -> None:
    labels = [f"r{n}" for n in range(6)]
    runs = [await start(client, thread_id, label, do={}) for label in labels]
    await client.runs.join(thread_id, runs[-1]["run_id"])
    assert [entry for entry in await log_of(client, thread_id) if entry.startswith("r")] == labels


async def test_interrupt_keeps_what_the_old_run_did(client: LangGraphClient, thread_id: str, tmp_path: Path) -> None:
    first = await working(client, thread_id, tmp_path / "b")
    second = await start(client, thread_id, "r2", multitask_strategy="interrupt")
    assert second["status"] == "pending"
    assert (await client.runs.get(thread_id, first["run_id"]))["status"] == "interrupted"
    result: Any = await client.runs.join(thread_id, second["run_id"])
    assert result["log"] == ["r1", "a", "r2", "a", "b", "c"]
    assert await statuses(client, thread_id) == ["interrupted", "success"]
    assert len(await checkpoints(client, thread_id)) == 8
    thread: Any = await client.threads.get(thread_id)
    assert thread["status"] == "idle"
    assert thread["error"] is None
    assert thread["values"]["log"] == result["log"]


async def test_rollback_leaves_nothing_of_the_old_run(client: LangGraphClient, thread_id: str, tmp_path: Path) -> None:
    first = await working(client, thread_id, tmp_path / "b")
    second = await start(client, thread_id, "r2", multitask_strategy="rollback")
    result: Any = await client.runs.join(thread_id, second["run_id"])
    assert result["log"] == ["r2", "a", "b", "c"]
    with pytest.raises(NotFoundError):
        await client.runs.get(thread_id, first["run_id"])
    assert await statuses(client, thread_id) == ["success"]
    assert len(await checkpoints(client, thread_id)) == 5


async def test_rollback_restores_what_an_earlier_run_left(
    client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    await client.runs.wait(thread_id, "agent", input={"log": ["r0"]}, if_not_exists="create")
    before = await client.threads.get(thread_id)
    run = await working(client, thread_id, tmp_path / "b")
    await client.runs.cancel(thread_id, run["run_id"], wait=True, action="rollback")
    after = await client.threads.get(thread_id)
    assert (after["status"], after["values"]) == (before["status"], before["values"])
    assert await log_of(client, thread_id) == ["r0", "a", "b", "c"]


async def test_reject_refuses_a_second_run(client: LangGraphClient, thread_id: str, tmp_path: Path) -> None:
    first = await working(client, thread_id, tmp_path / "b")
    with pytest.raises(ConflictError) as refusal:
        await start(client, thread_id, "r2", multitask_strategy="reject")
    body: Any = refusal.value.body
    assert isinstance(body["detail"], str)
    assert len(await client.runs.list(thread_id)) == 1
    await client.runs.cancel(thread_id, first["run_id"], wait=True)
    again = await start(client, thread_id, "r3", multitask_strategy="reject")
    await client.runs.join(thread_id, again["run_id"])
    assert await log_of(client, thread_id) == ["r1", "a", "r3", "a", "b", "c"]


@pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
async def test_pending_runs_are_superseded_too(
    client: LangGraphClient, thread_id: str, tmp_path: Path, strategy: Any
) -> None:
    await working(client, thread_id, tmp_path / "b")
    queued = [await start(client, thread_id, f"q{n}") for n in range(2)]
    delayed = await start(client, thread_id, "later", after_seconds=60)
    last = await start(client, thread_id, "new", multitask_strategy=strategy)
    await client.runs.join(thread_id, last["run_id"])
    kept = ["r1", "a"] if strategy == "interrupt" else []
    assert await log_of(client, thread_id) == [*kept, "new", "a", "b", "c"]
    expected = ["interrupted"] * 3 + ["success"] if strategy == "interrupt" else ["success"]
    found = [run for run in await client.runs.list(thread_id) if run["run_id"] != delayed["run_id"]]
    assert [run["status"] for run in reversed(found)] == expected
    for run in (*queued, delayed):
        if strategy == "interrupt":
            assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "interrupted"
        else:
            with pytest.raises(NotFoundError):
                await client.runs.get(thread_id, run["run_id"])


async def test_joining_superseded_runs_answers_with_what_is_kept(
    client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    first = await working(client, thread_id, tmp_path / "b")
    second = await start(client, thread_id, "r2")
    third = await start(client, thread_id, "r3", do=WORKING, multitask_strategy="interrupt")
    joined: Any = await client.runs.join(thread_id, first["run_id"])
    assert joined["log"] == ["r1", "a"]
    queued: Any = await client.runs.join(thread_id, second["run_id"])
    assert queued["log"][:2] == ["r1", "a"]
    await client.runs.cancel(thread_id, third["run_id"], wait=True)


async def test_the_stream_of_an_interrupted_run_ends_without_an_error(
    client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    first = await working(client, thread_id, tmp_path / "b")
    stream = client.runs.join_stream(thread_id, first["run_id"])
    seen = [(await anext(stream)).event]
    await start(client, thread_id, "r2", multitask_strategy="interrupt")
    ends: list[Any] = []
    async for part in stream:
        # Older SDKs know no `end`, and are sent none.
        if part.event == "end":
            ends.append(part.data)
        else:
            seen.append(part.event)
    assert seen == ["metadata", "values"]
    assert ends in ([], [{"run_id": first["run_id"], "status": "interrupted"}])


async def test_a_delayed_run_does_not_hold_up_later_ones(client: LangGraphClient, thread_id: str) -> None:
    delayed = await start(client, thread_id, "late", after_seconds=1.5)
    prompt = await start(client, thread_id, "prompt")
    await client.runs.join(thread_id, prompt["run_id"])
    assert (await client.runs.get(thread_id, delayed["run_id"]))["status"] == "pending"
    assert (await client.threads.get(thread_id))["status"] == "busy"
    await client.runs.join(thread_id, delayed["run_id"])
    assert await log_of(client, thread_id) == ["prompt", "a", "b", "c", "late", "a", "b", "c"]


@pytest.mark.parametrize("strategy", ["reject", "enqueue", "interrupt", "rollback"])
async def test_a_thread_that_waits_for_a_human_accepts_every_strategy(
    client: LangGraphClient, thread_id: str, strategy: Any
) -> None:
    await client.runs.wait(thread_id, "hitl", input={"log": ["i"]}, if_not_exists="create")
    assert (await client.threads.get(thread_id))["status"] == "interrupted"
    result: Any = await client.runs.wait(thread_id, "hitl", command={"resume": "yes"}, multitask_strategy=strategy)
    assert result["log"] == ["i", "ask=yes", "after"]
    assert (await client.threads.get(thread_id))["status"] == "idle"


@pytest.mark.parametrize("strategy", ["reject", "enqueue", "interrupt", "rollback"])
async def test_a_thread_in_error_accepts_every_strategy(client: LangGraphClient, thread_id: str, strategy: Any) -> None:
    failed = await start(client, thread_id, "r1", do={"b": {"fail": "boom"}})
    await status_becomes(client, thread_id, "error")
    assert (await client.runs.get(thread_id, failed["run_id"]))["status"] == "error"
    run = await start(client, thread_id, "r2", multitask_strategy=strategy)
    await client.runs.join(thread_id, run["run_id"])
    assert await log_of(client, thread_id) == ["r1", "a", "r2", "a", "b", "c"]
    thread: Any = await client.threads.get(thread_id)
    assert (thread["status"], thread["error"]) == ("idle", None)


async def test_a_missing_thread_is_refused_unless_it_shall_be_created(client: LangGraphClient, thread_id: str) -> None:
    with pytest.raises(NotFoundError):
        await start(client, thread_id, "r1", if_not_exists="reject")
    run = await start(client, thread_id, "r1", if_not_exists="create", metadata={"team": "a"})
    await client.runs.join(thread_id, run["run_id"])
    thread = await client.threads.get(thread_id)
    assert (thread["metadata"] or {})["graph_id"] == "agent"
    assert (thread["metadata"] or {})["team"] == "a"


@pytest.mark.parametrize("began", [True, False])
async def test_a_thread_is_read_with_the_graph_whose_checkpoints_it_has(
    client: LangGraphClient, thread_id: str, tmp_path: Path, began: bool
) -> None:
    await client.runs.wait(thread_id, "hitl", input={"log": ["in"]}, if_not_exists="create")
    before: Any = await client.threads.get(thread_id)
    trace = tmp_path / "a"
    do = {"a": {"trace": str(trace), "sleep": 60}}
    run = await start(client, thread_id, "late", do=do, after_seconds=0 if began else 60)
    if began:
        await entered(trace)
    await client.runs.cancel(thread_id, run["run_id"], wait=True, action="rollback")
    after: Any = await client.threads.get(thread_id)
    assert (after["metadata"], after["interrupts"]) == (before["metadata"], before["interrupts"])
    assert (await client.threads.get_state(thread_id))["next"] == ["ask"]
    result: Any = await client.runs.wait(thread_id, "hitl", command={"resume": "yes"})
    assert result["log"] == ["in", "ask=yes", "after"]


async def test_a_rolled_back_answer_leaves_the_question_open(
    client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    """The answer and the node's result are pending writes on the asking run's checkpoint."""
    asked: Any = await client.runs.wait(thread_id, "twice", input={"log": ["i"]}, if_not_exists="create")
    question = asked["__interrupt__"][0]
    half: Any = await client.runs.wait(thread_id, "twice", command={"resume": "one"})
    second = half["__interrupt__"][0]
    before = await client.threads.get_state(thread_id)
    trace = tmp_path / "crash"
    assert question["value"] == "first?"
    assert second["value"] == "second?"
    # An answer whose run never gets further than its first step, and is rolled back.
    run = await client.runs.create(thread_id, "twice", command={"resume": "two"}, after_seconds=60)
    await client.runs.cancel(thread_id, run["run_id"], wait=True, action="rollback")
    assert not trace.exists()
    after = await client.threads.get_state(thread_id)
    assert [t["interrupts"] for t in after["tasks"]] == [t["interrupts"] for t in before["tasks"]]
    assert (await client.threads.get(thread_id))["status"] == "interrupted"
    result: Any = await client.runs.wait(thread_id, "twice", command={"resume": "two"})
    assert result["log"] == ["i", "one,two"]


@pytest.mark.parametrize(("durability", "how"), [("async", "cancel"), ("exit", "cancel"), ("exit", "interrupt")])
async def test_a_run_that_was_overtaken_keeps_what_it_did_when_it_is_stopped(
    client: LangGraphClient, thread_id: str, tmp_path: Path, durability: Any, how: str
) -> None:
    trace = tmp_path / "b"
    do = {"b": {"trace": str(trace), "sleep": 60}}
    delayed = await start(client, thread_id, "d", do=do, after_seconds=4, durability=durability)
    before = await start(client, thread_id, "o")
    await client.runs.join(thread_id, before["run_id"])
    await entered(trace)
    if how == "cancel":
        await client.runs.cancel(thread_id, delayed["run_id"], wait=True)
    else:
        after = await start(client, thread_id, "n", multitask_strategy="interrupt")
        result: Any = await client.runs.join(thread_id, after["run_id"])
        assert result["log"] == ["o", "a", "b", "c", "d", "a", "n", "a", "b", "c"]
    thread: Any = await client.threads.get(thread_id)
    state = await client.threads.get_state(thread_id)
    assert (await client.runs.get(thread_id, delayed["run_id"]))["status"] == "interrupted"
    assert thread["status"] == ("interrupted" if how == "cancel" else "idle")
    assert thread["values"] == state["values"]
    if how == "cancel":
        assert (thread["values"]["log"], state["next"]) == (["o", "a", "b", "c", "d", "a"], ["b"])


async def agree(client: LangGraphClient, thread_id: str) -> Any:
    """See that a thread that rests says of itself what its state says, and return the state."""
    thread, state = await client.threads.get(thread_id), await client.threads.get_state(thread_id)
    assert thread["status"] == ("interrupted" if state["next"] else "idle")
    assert thread["values"] == state["values"]
    return state


async def stopped(client: LangGraphClient, thread_id: str, run: Any, then: Path) -> None:
    """Interrupt a run, then let go what holds it, and wait until its thread rests."""
    await client.runs.cancel(thread_id, run["run_id"])
    open_gate(then)
    await settled(client, thread_id)


def open_gate(gate: Path) -> None:
    gate.touch()


async def settled(client: LangGraphClient, thread_id: str) -> None:
    """Wait until a thread rests."""

    async def rests() -> bool:
        return (await client.threads.get(thread_id))["status"] != "busy"

    await eventually(rests, what="the thread rests")


async def test_a_thread_shows_what_the_tasks_beside_the_interrupted_one_have_done(
    client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    run = await start(client, thread_id, "r1", graph="parallel", do={"slow": {"until": str(tmp_path / "gate")}})
    await reached(client, thread_id, "slow")
    await stopped(client, thread_id, run, tmp_path / "gate")
    state = await agree(client, thread_id)
    assert (state["next"], state["values"]["log"]) == (["slow"], ["r1", "fast"])
    assert await client.runs.join(thread_id, run["run_id"]) == state["values"]


async def test_a_thread_shows_what_a_resumed_run_has_written_onto_the_checkpoint_of_another(
    client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    gates = {name: tmp_path / name for name in ("fast", "slow")}
    do = {name: {"until": str(gate), "trace": f"{gate}.trace"} for name, gate in gates.items()}
    run = await start(client, thread_id, "r1", graph="parallel", do=do)
    await entered(Path(f"{gates['fast']}.trace"))
    await client.runs.cancel(thread_id, run["run_id"], wait=True)
    await settled(client, thread_id)
    again = await client.runs.create(thread_id, "parallel")
    gates["fast"].touch()
    await reached(client, thread_id, "slow")
    await stopped(client, thread_id, again, gates["slow"])
    state = await agree(client, thread_id)
    assert (state["next"], state["values"]["log"]) == (["slow"], ["r1", "fast"])
    assert await client.runs.join(thread_id, again["run_id"]) == state["values"]


async def test_a_thread_agrees_with_its_state_when_its_run_was_stopped_in_a_reducer(
    client: LangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "trace"
    config: Any = {"configurable": {"trace": str(trace), "gates": {"reducer": str(gate)}}}
    run = await client.runs.create(thread_id, "reducing", input={"log": ["r1"]}, config=config, if_not_exists="create")
    await entered(trace)
    await stopped(client, thread_id, run, gate)
    await agree(client, thread_id)
    result: Any = await client.runs.wait(thread_id, "reducing", config=config)
    assert result["log"] == ["r1", "draft", "publish"]
