"""Steps that fail after their nodes: what the nodes wrote cannot be put together."""

from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient

from tests.runs.support import statuses

CLASH = "At key 'key': Can receive only one value per step."
NOT_A_NUMBER = {"calm": True, "term": "a word"}


async def streamed(
    client: LangGraphClient, thread_id: str, graph: str = "clashing", **kwargs: Any
) -> list[tuple[str, Any]]:
    """Run to the end, and return the events."""
    given: dict[str, Any] = {"stream_mode": ["values", "updates"], **kwargs}
    return [(part.event, part.data) async for part in client.runs.stream(thread_id, graph, **given)]


async def clashed(client: LangGraphClient, graph: str = "clashing", **values: Any) -> str:
    """Let a run fail on a new thread, and return the thread's id."""
    thread_id = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread_id, graph, input={"key": "mine", **values}, raise_error=False)
    return thread_id


async def state_of(client: LangGraphClient, thread_id: str, **kwargs: Any) -> dict[str, Any]:
    """Read a state."""
    return dict(await client.threads.get_state(thread_id, **kwargs))


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        pytest.param({}, "InvalidUpdateError", CLASH, id="two values of one key"),
        pytest.param(NOT_A_NUMBER, "TypeError", "unsupported operand type(s) for +", id="a reducer"),
    ],
)
async def test_a_step_that_cannot_be_put_together_fails_once_and_says_why(
    client: LangGraphClient, values: dict[str, Any], kind: str, message: str
) -> None:
    thread_id = (await client.threads.create())["thread_id"]
    events = await streamed(client, thread_id, input={"key": "mine", **values})
    assert [data["attempt"] for event, data in events if event == "metadata"] == [1]
    assert [event for event, _ in events] == ["metadata", "values", "updates", "updates", "error", "end"]
    error = dict(events)["error"]
    assert (error["error"], error["message"][: len(message)]) == (kind, message)
    thread: Any = await client.threads.get(thread_id)
    assert (thread["status"], await statuses(client, thread_id)) == ("error", ["error"])
    assert thread["values"]["key"] == "mine"


@pytest.mark.parametrize("values", [{}, NOT_A_NUMBER], ids=["two values of one key", "a reducer"])
async def test_the_state_is_that_before_the_step_with_what_its_nodes_wrote(
    client: LangGraphClient, values: dict[str, Any]
) -> None:
    thread_id = await clashed(client, **values)
    state = await state_of(client, thread_id)
    assert (state["values"]["key"], state["next"]) == ("mine", ["left", "right"])
    assert state["tasks"][0]["result"] == {"key": "left", "total": values.get("term", 1)}
    assert await state_of(client, thread_id, checkpoint={"thread_id": thread_id}) == state
    assert await state_of(client, thread_id, checkpoint_id=state["checkpoint"]["checkpoint_id"]) == state
    (latest,) = await client.threads.get_history(thread_id, limit=1)
    assert latest == state
    copied: Any = await client.threads.copy(thread_id)
    assert (await state_of(client, copied["thread_id"]))["values"] == state["values"]


async def test_a_thread_goes_on_from_an_update_of_what_could_not_be_put_together(client: LangGraphClient) -> None:
    thread_id = await clashed(client)
    assert CLASH in str((await client.threads.get(thread_id)).get("error"))
    await client.threads.update_state(thread_id, {"calm": True})
    assert (await client.threads.get(thread_id))["status"] != "error"
    values: Any = await client.runs.wait(thread_id, "clashing", input={"key": "again"})
    assert (values["key"], values["total"]) == ("left", 2)


async def test_the_states_of_subgraphs_are_read_of_a_thread_where_one_has_failed_so(client: LangGraphClient) -> None:
    thread_id = await clashed(client, "nested_clashing")
    state = await state_of(client, thread_id, subgraphs=True)
    (task,) = state["tasks"]
    assert CLASH in task["error"]
    assert (task["state"]["values"]["key"], task["state"]["next"]) == ("mine", ["left", "right"])


async def test_a_question_beside_a_clash_waits_until_it_is_answered(client: LangGraphClient) -> None:
    thread_id = await clashed(client, asks=True)
    asking = await state_of(client, thread_id)
    assert [asked["value"] for asked in asking["interrupts"]] == ["how much?"]
    events = await streamed(client, thread_id, command={"resume": 5})
    assert [data["attempt"] for event, data in events if event == "metadata"] == [1]
    assert dict(events)["error"]["message"].startswith(CLASH)
    answered = await state_of(client, thread_id)
    assert (answered["interrupts"], (await client.threads.get(thread_id))["status"]) == ([], "error")
    (latest,) = await client.threads.get_history(thread_id, limit=1)
    assert latest["interrupts"] == []


async def test_a_command_that_cannot_be_applied_leaves_a_thread_that_can_be_read_and_updated(
    client: LangGraphClient,
) -> None:
    thread_id = (await client.threads.create())["thread_id"]
    first = await client.runs.create(thread_id, "hitl", input={"log": ["in"]})
    await client.runs.join(thread_id, first["run_id"])
    asked = await state_of(client, thread_id)
    events = await streamed(client, thread_id, graph="hitl", command={"update": {"log": 5}})
    assert [data["attempt"] for event, data in events if event == "metadata"] == [1]
    assert dict(events)["error"]["error"] == "TypeError"
    assert (await client.threads.get(thread_id))["status"] == "error"
    assert await state_of(client, thread_id) == asked
    assert await state_of(client, thread_id, checkpoint_id=asked["checkpoint_id"]) == asked
    assert [dict(state) for state in await client.threads.get_history(thread_id, limit=1)] == [asked]
    joined: Any = await client.runs.join(thread_id, first["run_id"])
    assert joined["log"] == ["in"]
    await client.threads.update_state(thread_id, {"log": ["updated"]}, as_node="ask")
    values: Any = await client.runs.wait(thread_id, "hitl", input=None)
    assert values["log"] == ["in", "updated", "after"]
