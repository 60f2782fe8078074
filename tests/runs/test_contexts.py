"""`runtime.context`: what graphs find there, by the kind of their schema and by what a client sends."""

from typing import Any
from uuid import uuid4

import pytest
from langgraph_sdk.client import LangGraphClient

from tests.eventually import eventually
from tests.served import contexts

PLACES = {"node", "sent", "get_runtime", "inner"}
DEFAULTS = {"class": "Context", "tone": "plain", "words": ["hello"]}
WARM = {"tone": "warm"}
WITH_UNKNOWN = {"tone": "warm", "unknown": 1}

# What is found if nothing is sent, if what the schema knows is sent, and with a key that it does not know.
FOUND: dict[str, tuple[Any, Any, Any]] = {
    "configured": (DEFAULTS, {**DEFAULTS, **WARM}, {**DEFAULTS, **WARM}),
    "modelled": ({"class": "Modelled", "tone": "plain"}, {"class": "Modelled", **WARM}, {"class": "Modelled", **WARM}),
    "typed": (None, WARM, WITH_UNKNOWN),
    "free": (None, WARM, WITH_UNKNOWN),
}
SENT = ({}, WARM, WITH_UNKNOWN)


@pytest.mark.parametrize("graph", FOUND)
async def test_each_kind_of_schema_finds_what_it_finds_in_process(client: LangGraphClient, graph: str) -> None:
    """As a field of the request and by `configurable`; in every place that code may look in."""
    for sent, found in zip(SENT, FOUND[graph], strict=True):
        ways: Any = ({"context": sent}, {"config": {"configurable": sent}})
        for how in ways:
            values: Any = await client.runs.wait(None, graph, input={}, **how)
            assert values["seen"] == dict.fromkeys(PLACES, found), (sent, how)


@pytest.mark.parametrize("graph", ["configured", "modelled", "typed", "free"])
async def test_that_is_what_langgraph_gives_to_nodes_when_it_runs_them_itself(graph: str) -> None:
    """But for what it does not do: it builds nothing if nothing was sent, and classes refuse keys they do not know."""
    own: Any = getattr(contexts, "graph" if graph == "configured" else graph)
    assert (await own.ainvoke({}, context=WARM))["seen"] == dict.fromkeys(PLACES, FOUND[graph][1])


@pytest.mark.parametrize(("graph", "kind"), [("demanding", "TypeError"), ("demanding_model", "ValidationError")])
async def test_a_field_that_is_required_and_missing_is_named(client: LangGraphClient, graph: str, kind: str) -> None:
    """The run ends as an error, which says the class and the field; the thread can be used."""
    thread = (await client.threads.create())["thread_id"]
    failed: Any = await client.runs.wait(thread, graph, input={}, raise_error=False)
    assert failed["__error__"]["error"] == kind
    assert "Demanding" in failed["__error__"]["message"]
    assert "tone" in failed["__error__"]["message"]
    values: Any = await client.runs.wait(thread, graph, input={}, context=WARM)
    assert values["log"] == ["warm"]


async def test_an_assistant_and_a_cron_bring_their_context_and_a_run_adds_to_it(client: LangGraphClient) -> None:
    """Also to a graph without a schema, which gets all of it."""
    assistant = await client.assistants.create("free", context=WARM)
    values: Any = await client.runs.wait(None, assistant["assistant_id"], input={}, context={"more": 1})
    assert values["seen"]["node"] == {"tone": "warm", "more": 1}
    thread = (await client.threads.create())["thread_id"]
    cron: Any = await client.crons.create_for_thread(
        thread, assistant["assistant_id"], schedule="* * * * * *", input={}, context={"by": "cron"}
    )

    async def fired() -> bool:
        state: Any = await client.threads.get_state(thread)
        return bool((state["values"] or {}).get("seen", {}).get("inner"))

    await eventually(fired)
    await client.crons.delete(cron["cron_id"])
    state: Any = await client.threads.get_state(thread)
    assert state["values"]["seen"]["node"] == {"tone": "warm", "by": "cron"}


async def test_a_run_of_the_streaming_protocol_has_a_context_too(client: LangGraphClient) -> None:
    """It is started by a command."""
    thread = (await client.threads.create(thread_id=str(uuid4())))["thread_id"]
    for context, tone in ((None, "plain"), ({"tone": "loud", "unknown": 1}, "loud")):
        config = {"configurable": context} if context else {}
        answer: Any = await client.http.post(
            f"/threads/{thread}/commands",
            json={
                "id": 1,
                "method": "run.start",
                "params": {"assistant_id": "configured", "input": {}, "config": config},
            },
        )
        assert answer["type"] == "success", answer
        await client.runs.join(thread, answer["result"]["run_id"])
        state: Any = await client.threads.get_state(thread)
        assert state["values"]["seen"]["node"]["tone"] == tone
