"""Runs that wait for a human, or stop at a breakpoint."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.eventually import eventually
from tests.runs.support import log_of, status_becomes
from tests.stack import Stack


async def test_an_interrupt_shows_everywhere(client: LangGraphClient, thread_id: str) -> None:
    parts = [
        part
        async for part in client.runs.stream(
            thread_id, "hitl", input={"log": ["in"]}, if_not_exists="create", stream_mode=["values", "updates", "tasks"]
        )
    ]
    [update] = [part.data for part in parts if part.event == "updates"]
    [interrupt] = update["__interrupt__"]
    assert set(interrupt) == {"value", "id", "response_schema"}
    assert (interrupt["value"], interrupt["response_schema"]) == ("ask?", None)
    values = [part.data for part in parts if part.event == "values"]
    assert values[-1] == {"log": ["in"], "__interrupt__": [interrupt]}
    tasks = [part.data for part in parts if part.event == "tasks"]
    assert [item["id"] for item in tasks[-1]["interrupts"]] == [interrupt["id"]]
    assert parts[-1].data["status"] == "success"

    state = await client.threads.get_state(thread_id)
    assert state["next"] == ["ask"]
    [shown] = state["tasks"][0]["interrupts"]
    assert (shown["id"], shown["value"]) == (interrupt["id"], "ask?")
    thread = await client.threads.get(thread_id)
    assert thread["status"] == "interrupted"
    assert thread["interrupts"] == {state["tasks"][0]["id"]: [{"id": interrupt["id"], "value": "ask?"}]}


async def test_an_interrupt_shows_in_modes_that_would_hide_it(client: LangGraphClient, thread_id: str) -> None:
    parts = [
        part
        async for part in client.runs.stream(
            thread_id, "hitl", input={"log": ["in"]}, if_not_exists="create", stream_mode=["messages-tuple"]
        )
    ]
    [update] = [part.data for part in parts if part.event == "updates"]
    assert update["__interrupt__"][0]["value"] == "ask?"


async def test_wait_returns_values_and_interrupt_also_later(client: LangGraphClient, thread_id: str) -> None:
    result: Any = await client.runs.wait(thread_id, "hitl", input={"log": ["in"]}, if_not_exists="create")
    assert result["log"] == ["in"]
    [asked] = result["__interrupt__"]
    assert asked == {"id": asked["id"], "value": "ask?", "response_schema": None}
    [run] = await client.runs.list(thread_id)
    assert run["status"] == "success"
    joined: Any = await client.runs.join(thread_id, run["run_id"])
    assert joined == {"log": ["in"], "__interrupt__": [{"id": asked["id"], "value": "ask?"}]}


@pytest.mark.parametrize("by_id", [False, True])
async def test_a_resume_answers_the_question(client: LangGraphClient, thread_id: str, by_id: bool) -> None:
    asked: Any = await client.runs.wait(thread_id, "hitl", input={"log": ["in"]}, if_not_exists="create")
    answer: Any = {asked["__interrupt__"][0]["id"]: "yes"} if by_id else "yes"
    result: Any = await client.runs.wait(thread_id, "hitl", command={"resume": answer})
    assert result == {"log": ["in", "ask=yes", "after"]}
    thread = await client.threads.get(thread_id)
    assert (thread["status"], thread["interrupts"]) == ("idle", {})


async def test_several_interrupts_are_answered_by_id_one_after_the_other(
    client: LangGraphClient, thread_id: str
) -> None:
    asked: Any = await client.runs.wait(thread_id, "both", input={"log": ["in"]}, if_not_exists="create")
    ids = {item["value"]: item["id"] for item in asked["__interrupt__"]}
    assert set(ids) == {"left?", "right?"}
    assert len((await client.threads.get(thread_id))["interrupts"]) == 2
    half: Any = await client.runs.wait(thread_id, "both", command={"resume": {ids["left?"]: "L"}})
    assert [item["value"] for item in half["__interrupt__"]] == ["right?"]
    result: Any = await client.runs.wait(thread_id, "both", command={"resume": {ids["right?"]: "R"}})
    assert sorted(result["log"]) == ["after", "in", "left=L", "right=R"]


async def test_a_history_does_not_ask_again_what_was_answered(client: LangGraphClient, thread_id: str) -> None:
    asked: Any = await client.runs.wait(thread_id, "both", input={"log": []}, if_not_exists="create")
    answer = {item["id"]: item["value"] for item in asked["__interrupt__"] if item["value"] == "left?"}
    await client.runs.wait(thread_id, "both", command={"resume": answer})
    [now, *before] = await client.threads.get_history(thread_id, limit=10)
    assert now == await client.threads.get_state(thread_id)
    assert (now["values"], now["next"]) == ({"log": ["left=left?"]}, ["right"])
    assert [item["value"] for task in now["tasks"] for item in task["interrupts"]] == ["right?"]
    # Of one checkpoint it is told what it was, with both questions.
    [then] = await client.threads.get_history(thread_id, checkpoint=now["checkpoint"])
    assert [len(task["interrupts"]) for task in then["tasks"]] == [1, 1]
    assert len(before) == 1


async def test_each_question_is_shown_once_with_the_values_whatever_modes_are_asked_for(
    client: LangGraphClient, thread_id: str
) -> None:
    shown: Any = None
    async for part in client.runs.stream(
        thread_id, "both", input={"log": ["in"]}, if_not_exists="create", stream_mode=["values", "updates", "tasks"]
    ):
        shown = part.data if part.event == "values" else shown
    assert sorted(item["value"] for item in shown["__interrupt__"]) == ["left?", "right?"]
    run_id = (await client.runs.list(thread_id))[0]["run_id"]
    joined: Any = await client.runs.join(thread_id, run_id)
    assert sorted(item["value"] for item in joined["__interrupt__"]) == ["left?", "right?"]
    assert (joined["log"], shown["log"]) == (["in"], ["in"])


async def test_one_answer_to_two_questions_is_an_error_that_keeps_them(client: LangGraphClient, thread_id: str) -> None:
    asked: Any = await client.runs.wait(thread_id, "both", input={"log": ["in"]}, if_not_exists="create")
    wrong: Any = await client.runs.wait(thread_id, "both", command={"resume": "x"}, raise_error=False)
    assert wrong["__error__"]["error"] == "RuntimeError"
    thread = await client.threads.get(thread_id)
    assert thread["status"] == "error"
    assert len(thread["interrupts"]) == 2
    answers = {item["id"]: "ok" for item in asked["__interrupt__"]}
    result: Any = await client.runs.wait(thread_id, "both", command={"resume": answers})
    assert sorted(result["log"]) == ["after", "in", "left=ok", "right=ok"]


@pytest.mark.parametrize("goto", ["after", ["after"], {"node": "after", "input": {}}])
async def test_a_command_may_update_and_go_elsewhere(client: LangGraphClient, thread_id: str, goto: Any) -> None:
    await client.runs.wait(thread_id, "agent", input={"log": ["in"]}, if_not_exists="create")
    await client.runs.wait(thread_id, "hitl", input={"log": ["in"]})
    await client.runs.wait(thread_id, "hitl", command={"resume": "yes"})
    command: Any = {"update": [["log", ["updated"]]], "goto": goto}
    result: Any = await client.runs.wait(thread_id, "hitl", command=command)
    assert result["log"][-3:] == ["after", "updated", "after"]


NOTHING: list[Any] = [
    {"goto": []},
    {"update": {}},
    {"update": []},
    {"goto": [], "update": None},
    {"goto": [], "resume": None},
]


@pytest.mark.parametrize("command", NOTHING, ids=str)
async def test_a_command_that_says_nothing_does_nothing(client: LangGraphClient, thread_id: str, command: Any) -> None:
    await client.runs.wait(thread_id, "agent", input={"log": ["in"]}, if_not_exists="create")
    result: Any = await client.runs.wait(thread_id, "agent", command=command)
    assert result["log"] == ["in", "a", "b", "c"]
    assert (await client.threads.get(thread_id))["status"] == "idle"
    given: Any = await client.runs.wait(thread_id, "agent", input={"log": ["more"]}, command=command)
    assert given["log"] == ["in", "a", "b", "c", "more", "a", "b", "c"]


async def test_a_command_that_says_nothing_keeps_the_question(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "hitl", input={"log": ["in"]}, if_not_exists="create")
    nothing: Any = {"goto": [], "update": {}}
    again: Any = await client.runs.wait(thread_id, "hitl", command=nothing)
    assert [item["value"] for item in again["__interrupt__"]] == ["ask?"]
    assert (await client.threads.get(thread_id))["status"] == "interrupted"


@pytest.mark.parametrize("answer", [False, 0, "", [], {}], ids=repr)
async def test_an_answer_may_be_nothing_much(client: LangGraphClient, thread_id: str, answer: Any) -> None:
    asked: Any = await client.runs.wait(thread_id, "hitl", input={"log": ["in"]}, if_not_exists="create")
    command: Any = {"goto": [], "update": {}, "resume": {asked["__interrupt__"][0]["id"]: answer}}
    result: Any = await client.runs.wait(thread_id, "hitl", command=command)
    assert result["log"] == ["in", f"ask={answer}", "after"]


async def test_a_question_of_a_subgraph_is_answered(client: LangGraphClient, thread_id: str) -> None:
    asked: Any = await client.runs.wait(thread_id, "nested_hitl", input={"log": ["in"]}, if_not_exists="create")
    assert asked["log"] == ["in"]
    assert [item["value"] for item in asked["__interrupt__"]] == ["inner?"]
    result: Any = await client.runs.wait(thread_id, "nested_hitl", command={"resume": "yes"})
    assert result["log"].count("inner=yes") == 1
    assert result["log"][-1] == "after"


async def test_a_thread_shows_the_root_graph_although_subgraphs_are_streamed(
    client: LangGraphClient, thread_id: str
) -> None:
    stream = client.runs.stream(
        thread_id, "nested_hitl", input={"log": ["in"]}, if_not_exists="create", stream_subgraphs=True
    )
    async for _ in stream:
        pass
    thread = await client.threads.get(thread_id)
    state = await client.threads.get_state(thread_id)
    assert thread["values"] == state["values"] == {"log": ["in"]}
    assert list(thread["interrupts"]) == [state["tasks"][0]["id"]]


@pytest.mark.parametrize(
    ("where", "nodes", "log"),
    [
        ("interrupt_before", ["b"], ["in", "a"]),
        ("interrupt_after", ["b"], ["in", "a", "b"]),
        ("interrupt_before", "*", ["in"]),
        ("interrupt_after", "*", ["in", "a"]),
    ],
)
async def test_a_breakpoint_stops_a_run_that_goes_on_without_input(
    client: LangGraphClient, thread_id: str, where: str, nodes: Any, log: list[str]
) -> None:
    stops: Any = {where: nodes}
    result: Any = await client.runs.wait(thread_id, "agent", input={"log": ["in"]}, if_not_exists="create", **stops)
    assert result["log"] == log
    thread = await client.threads.get(thread_id)
    assert (thread["status"], thread["interrupts"]) == ("interrupted", {})
    await client.runs.wait(thread_id, "agent", input=None)
    assert await log_of(client, thread_id) == ["in", "a", "b", "c"]


async def test_a_new_input_drops_the_question(client: LangGraphClient, thread_id: str) -> None:
    first: Any = await client.runs.wait(thread_id, "hitl", input={"log": ["one"]}, if_not_exists="create")
    second: Any = await client.runs.wait(thread_id, "hitl", input={"log": ["two"]})
    assert second["log"] == ["one", "two"]
    assert first["__interrupt__"][0]["id"] != second["__interrupt__"][0]["id"]


async def test_cancelling_a_queued_run_keeps_the_question(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "hitl", input={"log": ["in"]}, if_not_exists="create")
    later = await client.runs.create(thread_id, "hitl", command={"resume": "yes"}, after_seconds=60)
    await client.runs.cancel(thread_id, later["run_id"], wait=True)
    thread = await client.threads.get(thread_id)
    assert thread["status"] == "interrupted"
    assert len(thread["interrupts"]) == 1


async def refused(client: LangGraphClient, thread_id: str, graph: str, resume: Any) -> Any:
    """Answer strictly, be refused, and find the thread as it was; return the error."""
    before = await client.threads.get(thread_id)
    history = await client.threads.get_history(thread_id)
    result: Any = await client.runs.wait(
        thread_id, graph, command={"resume": resume}, strict_resume=True, raise_error=False
    )
    after = await client.threads.get(thread_id)
    kept = ("status", "values", "interrupts", "error", "state_updated_at")
    assert {key: after.get(key) for key in kept} == {key: before.get(key) for key in kept}
    assert await client.threads.get_history(thread_id) == history
    runs = await client.runs.list(thread_id, limit=1)
    assert runs[0]["status"] == "error"
    return result["__error__"]


async def test_a_strict_answer_to_a_question_that_nobody_asks_is_refused(
    client: LangGraphClient, thread_id: str
) -> None:
    await client.runs.wait(thread_id, "both", input={"log": []}, if_not_exists="create")
    thread = await client.threads.get(thread_id)
    ids = {items[0]["value"]: items[0]["id"] for items in thread["interrupts"].values()}
    nobody = "0" * 32

    error = await refused(client, thread_id, "both", {nobody: "x", ids["left?"]: "l"})
    assert (error["error"], nobody in error["message"]) == ("UnknownInterruptError", True)
    assert (await refused(client, thread_id, "both", "one for two"))["error"] == "UnknownInterruptError"
    assert (await refused(client, thread_id, "both", {}))["error"] == "UnknownInterruptError"

    answers = {ids["left?"]: "l", ids["right?"]: "r"}
    result: Any = await client.runs.wait(thread_id, "both", command={"resume": answers}, strict_resume=True)
    assert sorted(result["log"]) == ["after", "left=l", "right=r"]
    # Once used, an answer is nobody's any more.
    assert (await refused(client, thread_id, "both", answers))["error"] == "UnknownInterruptError"


async def test_without_strictness_such_an_answer_is_ignored(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "hitl", input={"log": []}, if_not_exists="create")
    result: Any = await client.runs.wait(thread_id, "hitl", command={"resume": {"0" * 32: "x"}})
    assert [item["value"] for item in result["__interrupt__"]] == ["ask?"]


async def test_the_thread_of_a_refused_answer_takes_the_next_run(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "hitl", input={"log": []}, if_not_exists="create")
    refusal = await client.runs.create(thread_id, "hitl", command={"resume": {"0" * 32: "x"}}, strict_resume=True)
    answer = await client.runs.create(thread_id, "hitl", command={"resume": "yes"})
    await client.runs.join(thread_id, answer["run_id"])
    assert (await client.runs.get(thread_id, refusal["run_id"]))["status"] == "error"
    state: Any = await client.threads.get_state(thread_id)
    assert state["values"]["log"] == ["ask=yes", "after"]
    assert (await client.threads.get(thread_id))["status"] == "idle"


async def test_what_a_run_has_left_stays_what_it_was_when_others_go_on_from_there(
    client: LangGraphClient, thread_id: str
) -> None:
    """Two tasks ask. The second run answers one, so it leaves what that has done; the third answers the other."""
    await client.threads.create(thread_id=thread_id)
    left = list[Any]()
    commands: list[Any] = [None, "left?", "right?"]
    for asked in commands:
        given: Any = {"input": {"log": ["in"]}}
        if asked:
            ids = {each["value"]: each["id"] for each in left[-1]["__interrupt__"]}
            given = {"command": {"resume": {ids[asked]: "yes"}}}
        left.append(await client.runs.wait(thread_id, "both", **given))
    assert [each["log"] for each in left] == [
        ["in"],
        ["in", "left=yes"],
        ["in", "left=yes", "right=yes", "after"],
    ]
    found = sorted(await client.runs.list(thread_id), key=lambda run: run["created_at"])
    for run, then in zip(found, left, strict=True):
        now: Any = await client.runs.join(thread_id, run["run_id"])
        assert now["log"] == then["log"]
        assert questions(now) == questions(then)


def questions(output: Any) -> list[str]:
    """List what is asked."""
    return sorted(each["value"] for each in output.get("__interrupt__", []))


async def test_who_waits_is_asked_although_somebody_else_has_answered_meanwhile(
    client: LangGraphClient, server: Stack, thread_id: str, tmp_path: Path
) -> None:
    beside = Stack(server.environment, tmp_path)
    try:
        api = await beside.start("api")
        await beside.ready()
        async with get_client(url=beside.url) as slow:
            await slow.threads.create(thread_id=thread_id)
            waiting = asyncio.create_task(slow.runs.wait(thread_id, "hitl", input={"log": ["in"]}, after_seconds=2))

            async def admitted() -> bool:
                return bool(await client.runs.list(thread_id))

            await eventually(admitted)
            # This API hears of nothing until another run has ended.
            api.send_signal(signal.SIGSTOP)
            await status_becomes(client, thread_id, "interrupted")
            await client.runs.wait(thread_id, "hitl", command={"resume": "yes"})
            api.send_signal(signal.SIGCONT)
            asked: Any = await waiting
    finally:
        await beside.kill("api")
    assert asked["log"] == ["in"]
    assert [(each["value"], each["response_schema"]) for each in asked["__interrupt__"]] == [("ask?", None)]
