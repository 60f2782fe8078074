"""What a graph never keeps in a checkpoint lasts as long as its run, whichever worker makes its steps."""

from typing import Annotated, Any
from uuid import uuid4

from langgraph.channels import UntrackedValue
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from durathread.graphs.registry import Graph
from durathread.graphs.untracked import Untracked, Values, carrying


class State(TypedDict, total=False):
    """What is counted, and what nobody may keep."""

    calls: Annotated[int, UntrackedValue]
    by_tool: Annotated[dict[str, int], UntrackedValue]
    secret: Annotated[str, UntrackedValue]
    seen: list[Any]


def count(state: State) -> State:
    """Count, and note what was there."""
    calls = state.get("calls", 0)
    return {
        "calls": calls + 1,
        "by_tool": {"search": calls},
        "secret": "s3cret",
        "seen": [*state.get("seen", []), [calls, state.get("secret")]],
    }


def graph_of(saver: InMemorySaver) -> Graph:
    builder = StateGraph(State)
    builder.add_node("one", count)
    builder.add_node("two", count)
    builder.add_edge(START, "one")
    builder.add_edge("one", "two")
    return builder.compile(checkpointer=saver, interrupt_after=["one"])


async def seen(taken: list[Values]) -> list[Any]:
    """Run a graph in two calls, the second with what `taken` says that the first has left."""
    graph = graph_of(InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    values: Any = None
    for given, carried in zip(({"seen": []}, None), taken, strict=True):
        values = await carrying(graph, carried).ainvoke(given, config)
    assert "calls" not in (await graph.aget_state(config)).values
    return values["seen"]


async def test_a_step_finds_what_the_step_before_it_has_left() -> None:
    values: Values = {}
    assert await seen([values, values]) == [[0, None], [1, "s3cret"]]
    assert values == {"calls": 2, "by_tool": {"search": 1}, "secret": "s3cret"}


async def test_that_is_what_a_graph_finds_in_one_call() -> None:
    graph = graph_of(InMemorySaver()).copy({"interrupt_after_nodes": []})
    values: Any = await graph.ainvoke({"seen": []}, {"configurable": {"thread_id": "t"}})
    assert values["seen"] == [[0, None], [1, "s3cret"]]


def test_all_of_it_stays_in_the_process_and_counts_go_to_others() -> None:
    here, there, one = Untracked(), Untracked(), uuid4()
    left: Values = {"calls": 2, "by_tool": {"search": 1}, "secret": "s3cret", "shell": object()}
    counts = here.keep(one, 3, left)
    assert counts == {"calls": 2, "by_tool": {"search": 1}}
    assert here.take(one, 3, counts) == left
    assert there.take(one, 3, counts) == counts


def test_a_step_that_is_repeated_begins_as_it_began() -> None:
    here, one = Untracked(), uuid4()
    counts = here.keep(one, 1, {"calls": 1})
    here.take(one, 1, counts)["calls"] = 5
    assert here.take(one, 1, counts) == {"calls": 1}
    assert here.take(one, 2, {"calls": 7}) == {"calls": 7}


def test_nothing_is_left_of_a_run_that_has_ended() -> None:
    here, one = Untracked(), uuid4()
    here.keep(one, 1, {"secret": "s3cret"})
    here.drop(one)
    assert here.take(one, 1, {}) == {}
