"""What clients see of what a graph yields."""

from typing import Any

import orjson
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langgraph.types import Interrupt

from durathread.events.emitter import Emitter

Events = list[tuple[str, Any]]


def collecting(*modes: str, subgraphs: bool = False, resumed: bool = False) -> tuple[Emitter, Events]:
    events: Events = []
    emitter = Emitter(
        lambda name, data: events.append((name, orjson.loads(data))),
        modes=modes,
        subgraphs=subgraphs,
        resumed=resumed,
    )
    return emitter, events


def names(events: Events) -> list[str]:
    return [name for name, _ in events]


META = {"langgraph_node": "speak", "run_id": "r"}


def speak(emitter: Emitter, *, namespace: tuple[str, ...] = ()) -> None:
    """Stream a message in three chunks, as a model does."""
    for word in ("to", " be", " or"):
        emitter.chunk(namespace, "messages", (AIMessageChunk(content=word, id="m1"), META))


def test_messages_grow_from_part_to_part() -> None:
    emitter, events = collecting("messages")
    speak(emitter)
    assert names(events) == ["messages/metadata", "messages/partial", "messages/partial", "messages/partial"]
    assert events[0][1] == {"m1": {"metadata": META}}
    assert [data[0]["content"] for _, data in events[1:]] == ["to", "to be", "to be or"]
    assert {data[0]["type"] for _, data in events[1:]} == {"ai"}


def test_messages_that_are_not_streamed_come_whole() -> None:
    emitter, events = collecting("messages")
    emitter.chunk((), "messages", (AIMessage(content="whole", id="m1"), META))
    emitter.chunk((), "messages", (HumanMessage(content="hi", id="m2"), META))
    assert names(events) == ["messages/metadata", "messages/complete"] * 2
    assert [(data[0]["type"], data[0]["content"]) for name, data in events if name == "messages/complete"] == [
        ("ai", "whole"),
        ("human", "hi"),
    ]


def test_messages_of_two_models_at_once_are_kept_apart() -> None:
    emitter, events = collecting("messages")
    for word in ("a", "b"):
        for message_id in ("m1", "m2"):
            emitter.chunk((), "messages", (AIMessageChunk(content=word + message_id, id=message_id), META))
    parts = [data[0] for name, data in events if name == "messages/partial"]
    assert [(part["id"], part["content"]) for part in parts] == [
        ("m1", "am1"),
        ("m2", "am2"),
        ("m1", "am1bm1"),
        ("m2", "am2bm2"),
    ]


def test_message_tuples_come_as_the_model_gave_them() -> None:
    emitter, events = collecting("messages-tuple")
    speak(emitter)
    assert names(events) == ["messages"] * 3
    assert [(data[0]["content"], data[0]["type"], data[1]) for _, data in events] == [
        (word, "AIMessageChunk", META) for word in ("to", " be", " or")
    ]


def test_messages_of_subgraphs_are_shown_on_request_under_their_namespace() -> None:
    emitter, events = collecting("messages-tuple")
    speak(emitter, namespace=("sub:1",))
    assert events == []
    emitter, events = collecting("messages-tuple", "values", subgraphs=True)
    speak(emitter, namespace=("sub:1", "deep:2"))
    emitter.chunk(("sub:1",), "values", {"x": 1})
    assert names(events) == ["messages|sub:1|deep:2"] * 3 + ["values|sub:1"]


def test_what_was_not_asked_for_is_not_shown() -> None:
    emitter, events = collecting("updates")
    assert {"checkpoints", "custom", "tasks", "updates"} == set(emitter.langgraph_modes)
    for mode in ("values", "custom", "tasks", "updates"):
        emitter.chunk((), mode, {"x": 1})
    emitter.chunk((), "checkpoints", checkpoint())
    emitter.note((), "checkpoints", checkpoint())
    assert names(events) == ["updates"]
    assert (emitter.checkpoint or {})["next"] == ["b"]


def checkpoint(**given: Any) -> dict[str, Any]:
    private = {
        "__pregel_task_id": "secret",
        "langgraph_auth_user": {"token": "secret"},
        "langgraph_auth_user_id": "secret",
        "langgraph_auth_permissions": ["secret"],
        "langgraph_request_id": "secret",
    }
    config = {
        "configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "c2", "model": "m", **private},
        "callbacks": "secret",
        "metadata": {"user": "secret"},
    }
    parent = {"configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "c1", **private}}
    task = {"id": "1", "name": "b", "error": ValueError("wrong")}
    return {
        "config": config,
        "parent_config": parent,
        "values": {"x": 1},
        "metadata": {"step": 1},
        "next": ["b"],
        "tasks": [task, {"id": "2", "name": "c"}],
        **given,
    }


def test_checkpoints_are_shown_without_what_only_the_server_should_see() -> None:
    emitter, events = collecting("checkpoints")
    emitter.chunk((), "checkpoints", checkpoint())
    [(name, shown)] = events
    assert name == "checkpoints"
    assert shown["config"] == {
        "configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "c2", "model": "m"}
    }
    assert shown["parent_config"] == {"configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "c1"}}
    assert shown["tasks"] == [{"id": "1", "name": "b", "error": "wrong"}, {"id": "2", "name": "c"}]
    assert b"secret" not in orjson.dumps(shown)


def test_debug_events_are_shown_without_what_only_the_server_should_see() -> None:
    emitter, events = collecting("debug")
    emitter.chunk((), "debug", {"type": "checkpoint", "step": 1, "payload": checkpoint(parent_config=None)})
    emitter.chunk((), "debug", {"type": "task_result", "step": 1, "payload": {"id": "1", "error": ValueError("wrong")}})
    (_, first), (_, second) = events
    assert b"secret" not in orjson.dumps(first)
    assert first["payload"]["checkpoint"] == {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "c2"}
    assert (first["payload"]["parent_checkpoint"], first["payload"]["parent_config"]) == (None, None)
    assert second["payload"]["error"] == "wrong"


def debug(kind: str) -> dict[str, Any]:
    return {"type": kind, "step": 1, "payload": checkpoint() if kind == "checkpoint" else {"id": "1"}}


def test_a_resumed_step_drops_the_echo_of_the_step_before_and_nothing_else() -> None:
    emitter, events = collecting("values", "updates", "checkpoints", "debug", "tasks", resumed=True)
    for _ in range(2):
        emitter.chunk((), "values", {"x": 1})
        emitter.chunk((), "checkpoints", checkpoint())
        emitter.chunk((), "debug", debug("checkpoint"))
        emitter.chunk((), "debug", debug("task"))
        emitter.chunk((), "updates", {"a": {"x": 1}})
        emitter.chunk((), "tasks", {"id": "1"})
    rest = ["debug", "updates", "tasks"]
    assert names(events) == [*rest, "values", "checkpoints", "debug", *rest]


def test_a_step_that_begins_or_is_repeated_shows_all() -> None:
    emitter, events = collecting("values", "checkpoints", resumed=False)
    emitter.chunk((), "values", {"x": 1})
    emitter.chunk((), "checkpoints", checkpoint())
    assert names(events) == ["values", "checkpoints"]


def test_the_echo_of_a_subgraph_is_not_dropped() -> None:
    emitter, events = collecting("values", subgraphs=True, resumed=True)
    emitter.chunk(("sub:1",), "values", {"x": 1})
    emitter.chunk((), "values", {"x": 1})
    assert names(events) == ["values|sub:1"]


INTERRUPT = {"id": "i1", "value": "sure?"}


@pytest.mark.parametrize("modes", [["messages-tuple"], ["custom"], ["tasks", "debug"]])
def test_an_interrupt_is_shown_to_a_client_whose_modes_would_not(modes: list[str]) -> None:
    emitter, events = collecting(*modes)
    emitter.interrupts([INTERRUPT])
    assert events == [("updates", {"__interrupt__": [{**INTERRUPT, "response_schema": None}]})]


@pytest.mark.parametrize("modes", [["values"], ["updates"], ["values", "messages"]])
def test_an_interrupt_is_shown_once_to_a_client_whose_modes_do(modes: list[str]) -> None:
    emitter, events = collecting(*modes)
    mode = "values" if "values" in modes else "updates"
    asked = {"__interrupt__": (Interrupt("why?", id="1"),)}
    emitter.note((), mode, asked)
    emitter.chunk((), mode, asked)
    assert emitter.interrupted
    emitter.interrupts([INTERRUPT])
    assert len(events) == 1


def test_no_interrupt_is_no_event() -> None:
    emitter, events = collecting("custom")
    emitter.interrupts([])
    assert events == []


def test_hidden_events_of_langchain_stay_hidden() -> None:
    emitter, events = collecting("events")
    emitter.raw_event({"event": "on_chain_start", "tags": ["langsmith:hidden"]})
    emitter.raw_event({"event": "on_chain_start", "tags": ["seq:step:1"]})
    assert [data["tags"] for _, data in events] == [["seq:step:1"]]


class Secret(Exception):
    """An exception whose text nobody may read."""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (None, {"event": "completed"}),
        (ValueError("no"), {"event": "failed", "error": {"error": "ValueError", "message": "no"}}),
        (
            Secret("swordfish"),
            {"event": "failed", "error": {"error": "Secret", "message": "An internal error occurred"}},
        ),
    ],
)
def test_a_subgraph_of_a_tool_call_is_told_of_with_its_call(error: Exception | None, told: dict[str, Any]) -> None:
    emitter, events = collecting("lifecycle")
    call = [{"id": "call_1", "name": "ask", "args": {}, "type": "tool_call"}]
    emitter.chunk((), "tasks", {"id": "t1", "name": "tools", "input": call})
    for task in ({"id": "i1", "name": "inner", "input": {}}, {"id": "i2", "name": "next", "input": {}}):
        emitter.chunk(("tools:t1",), "tasks", task)
        emitter.chunk(("tools:t1",), "tasks", {**task, "result": {}, "error": None, "interrupts": []})
    emitter.chunk((), "tasks", {"id": "t1", "name": "tools", "result": {}, "error": error, "interrupts": []})
    common = {"namespace": ["tools:t1"], "tool_call_id": "call_1"}
    assert events == [
        ("lifecycle|tools:t1", {"event": "started", **common}),
        ("lifecycle|tools:t1", {**told, **common}),
    ]
