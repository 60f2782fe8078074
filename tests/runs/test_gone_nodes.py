"""What becomes of a thread that waits at a node which somebody has renamed or removed."""

from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient


async def asked(client: LangGraphClient, thread_id: str, graph: str) -> Any:
    """Run a graph until it asks."""
    await client.runs.wait(thread_id, graph, input={"log": ["in"]}, if_not_exists="create")
    thread = await client.threads.get(thread_id)
    assert thread["status"] == "interrupted"
    return thread


def answer_to(thread: Any) -> Any:
    """Answer all that a thread asks."""
    return {"resume": {item["id"]: "this" for items in thread["interrupts"].values() for item in items}}


@pytest.mark.parametrize("graph", ["asks", "sends", "nests"])
async def test_an_answer_to_a_node_that_is_gone_is_refused_and_the_question_stays_open(
    client: LangGraphClient, thread_id: str, graph: str
) -> None:
    before = await asked(client, thread_id, graph)
    run = await client.runs.create(thread_id, f"{graph}_after", command=answer_to(before))
    ended: Any = await client.runs.join(thread_id, run["run_id"])
    assert ended["__error__"]["error"] == "GoneNode"
    text = ended["__error__"]["message"]
    assert f"Graph '{graph}_after' has no node 'ask'" in text
    assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "error"
    after = await client.threads.get(thread_id)
    assert {key: after[key] for key in ("status", "values", "interrupts")} == {
        key: before[key] for key in ("status", "values", "interrupts")
    }
    # The node is brought back.
    values: Any = await client.runs.wait(thread_id, graph, command=answer_to(after))
    assert values["log"][:2] == ["in", "noted"]
    assert values["log"].count("this") == len(answer_to(after)["resume"])
    assert (await client.threads.get(thread_id))["status"] == "idle"


async def test_a_run_without_input_does_not_pass_over_a_node_that_is_gone(
    client: LangGraphClient, thread_id: str
) -> None:
    await asked(client, thread_id, "asks")
    ended: Any = await client.runs.wait(thread_id, "asks_after", input=None, raise_error=False)
    assert ended["__error__"]["error"] == "GoneNode"
    assert (await client.threads.get(thread_id))["status"] == "interrupted"


async def test_a_thread_whose_node_is_gone_goes_on_with_a_new_input(client: LangGraphClient, thread_id: str) -> None:
    await asked(client, thread_id, "asks")
    thread = await asked(client, thread_id, "asks_after")
    values: Any = await client.runs.wait(thread_id, "asks_after", command=answer_to(thread))
    assert values["log"][-1] == "this"


async def test_a_command_may_say_where_to_go_instead(client: LangGraphClient, thread_id: str) -> None:
    await asked(client, thread_id, "asks")
    values: Any = await client.runs.wait(thread_id, "asks_after", command={"goto": "first"})
    assert values["log"] == ["in", "noted", "noted"]
    assert [asked["value"] for asked in values["__interrupt__"]] == ["which?"]


async def test_a_state_that_was_edited_as_another_node_is_gone_on_with(client: LangGraphClient, thread_id: str) -> None:
    await asked(client, thread_id, "asks")
    await client.threads.update_state(thread_id, {"log": ["edited"]}, as_node="ask")
    values: Any = await client.runs.wait(thread_id, "asks_after", input=None)
    assert values["log"] == ["in", "noted", "edited"]
