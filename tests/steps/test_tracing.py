"""A run is one span, whatever number of supersteps it takes, and whoever takes them."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langgraph.types import Command, interrupt

from durathread.db.pool import Pool
from durathread.graphs.registry import Graph
from tests.steps.stepping import Thread
from tests.steps.test_superstep import State, chain, compiled


class Spans(AsyncCallbackHandler):
    """Notes what begins, and how it ends."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []
        self.names: dict[UUID, str] = {}
        self.parents: dict[str, str | None] = {}
        self.metadata: dict[str, Any] = {}

    async def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        name = self.names[run_id] = kwargs["name"]
        self.said.append(("start", name))
        self.parents[name] = self.names[parent_run_id] if parent_run_id else None
        if parent_run_id is None:
            self.metadata = kwargs["metadata"]

    async def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self.said.append(("end", self.names[run_id]))

    async def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self.said.append((repr(error), self.names[run_id]))


def heard(graph: Graph) -> tuple[Graph, Spans]:
    spans = Spans()
    return graph.with_config({"callbacks": [spans]}), spans


async def test_supersteps_are_children_of_one_span(pool: Pool) -> None:
    graph, spans = heard(compiled(chain("a", "b", "c"), name="abc"))
    thread = Thread(pool)
    assert (await thread.stepped(graph, {"log": []})).calls == 3
    nodes = [(what, name) for name in "abc" for what in ("start", "end")]
    assert spans.said == [("start", "abc"), *nodes, ("end", "abc")]
    assert spans.parents == {"abc": None, "a": "abc", "b": "abc", "c": "abc"}
    assert spans.metadata["thread_id"] == str(thread.thread_id)
    assert UUID(spans.metadata["run_id"]) in spans.names


@pytest.mark.parametrize("modes", [["values"], ["events"]])
async def test_a_stepped_run_is_traced_as_a_whole_one(pool: Pool, modes: list[str]) -> None:
    inner = compiled(chain("x", "y"), name="inner")
    builder = chain("a", "b")
    builder.add_node("inner", inner).add_edge("b", "inner")
    stepped, one = heard(compiled(builder))
    await Thread(pool).stepped(stepped, {"log": []}, stream_mode=modes)
    whole, other = heard(compiled(builder))
    await Thread(pool).whole(whole, {"log": []}, stream_mode=modes)
    assert one.said == other.said
    assert one.parents == other.parents


async def test_a_question_and_its_answer_are_two_runs_that_succeed(pool: Pool) -> None:
    async def ask(state: State) -> Any:
        return {"log": [interrupt("?")]}

    builder = chain("a")
    builder.add_node("ask", ask).add_edge("a", "ask")
    graph, spans = heard(compiled(builder, name="asks"))
    thread = Thread(pool)
    await thread.stepped(graph, {"log": []})
    await thread.stepped(graph, Command(resume="yes"))
    assert [each for each in spans.said if each[1] == "asks"] == [("start", "asks"), ("end", "asks")] * 2


async def test_a_run_that_fails_fails_once_with_its_error(pool: Pool) -> None:
    async def fail(state: State) -> Any:
        raise ValueError("boom")

    builder = chain("a")
    builder.add_node("fail", fail).add_edge("a", "fail")
    graph, spans = heard(compiled(builder, name="fails"))
    await Thread(pool).stepped(graph, {"log": []})
    assert [each for each in spans.said if each[1] == "fails"] == [
        ("start", "fails"),
        ("ValueError('boom')", "fails"),
    ]


async def test_no_handler_hears_that_a_graph_was_drained(pool: Pool) -> None:
    graph, spans = heard(compiled(chain("a", "b", "c")))
    await asyncio.gather(*(Thread(pool).stepped(graph, {"log": []}) for _ in range(3)))
    assert not [what for what, _ in spans.said if "Drained" in what]
