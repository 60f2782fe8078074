"""Stepping: each call runs one superstep of the root graph, and nothing else tells that a run was stepped."""

import asyncio
import operator
import time
from collections import Counter
from typing import Annotated, Any, Literal, TypedDict, cast

import pytest
from langgraph.cache.memory import InMemoryCache
from langgraph.config import get_stream_writer
from langgraph.errors import GraphRecursionError
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy, Command, RetryPolicy, Send, interrupt

from durathread.db.pool import Pool
from durathread.graphs.registry import Graph
from tests.steps.stepping import Thread, both, resume


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    count: int


def says(name: str, *, wait: float = 0) -> Any:
    """Build an async node that appends its name."""

    async def node(state: State) -> State:
        await asyncio.sleep(wait)
        return {"log": [name]}

    return node


def says_in_a_thread(name: str) -> Any:
    """Build a sync node, which LangGraph runs in a thread."""

    def node(state: State) -> State:
        return {"log": [name]}

    return node


def chain(*names: str, make: Any = says) -> StateGraph[Any]:
    builder = StateGraph(State)
    for name in names:
        builder.add_node(name, make(name))
    for source, target in zip([START, *names], [*names, END], strict=True):
        builder.add_edge(source, target)
    return builder


def compiled(builder: StateGraph[Any], **options: Any) -> Graph:
    return cast(Graph, builder.compile(**options))


def fan(*names: str) -> StateGraph[Any]:
    """All at once, later ones more slowly, then `done`."""
    builder = StateGraph(State)
    for position, name in enumerate(names):
        builder.add_node(name, says(name, wait=0.02 * position))
        builder.add_edge(START, name)
    builder.add_node("done", says("done"))
    builder.add_edge(list(names), "done")
    builder.add_edge("done", END)
    return builder


def looping() -> StateGraph[Any]:
    def count(state: State) -> State:
        return {"count": state.get("count", 0) + 1, "log": ["turn"]}

    def more(state: State) -> Literal["turn", "last"]:
        return "turn" if state.get("count", 0) < 3 else "last"

    builder = StateGraph(State)
    builder.add_node("turn", count)
    builder.add_node("last", says("last"))
    builder.add_edge(START, "turn")
    builder.add_conditional_edges("turn", more)
    builder.add_edge("last", END)
    return builder


def mapping() -> StateGraph[Any]:
    def scatter(state: State) -> list[Send]:
        return [Send("work", {"count": n}) for n in range(4)]

    async def work(state: State) -> State:
        await asyncio.sleep(0.01 * state.get("count", 0))
        return {"log": [f"work {state.get('count')}"]}

    builder = StateGraph(State)
    builder.add_node("plan", says("plan"))
    builder.add_node("work", work)
    builder.add_node("reduce", says("reduce"))
    builder.add_edge(START, "plan")
    builder.add_conditional_edges("plan", scatter, ["work"])
    builder.add_edge("work", "reduce")
    builder.add_edge("reduce", END)
    return builder


def commanding() -> StateGraph[Any]:
    def choose(state: State) -> Command[Literal["right"]]:
        return Command(goto="right", update={"log": ["choose"]})

    builder = StateGraph(State)
    builder.add_node("choose", choose)
    builder.add_node("right", says("right"))
    builder.add_edge(START, "choose")
    builder.add_edge("right", END)
    return builder


def nesting() -> StateGraph[Any]:
    builder = StateGraph(State)
    builder.add_node("sub", compiled(chain("x", "y", "z")))
    builder.add_node("quick", says("quick"))
    builder.add_node("last", says_in_a_thread("last"))
    builder.add_edge(START, "sub")
    builder.add_edge("sub", "quick")
    builder.add_edge("quick", "last")
    builder.add_edge("last", END)
    return builder


def deferring() -> StateGraph[Any]:
    builder = StateGraph(State)
    for name in ("left", "right", "right2"):
        builder.add_node(name, says(name))
    builder.add_node("joined", says("joined"), defer=True)
    builder.add_edge(START, "left")
    builder.add_edge(START, "right")
    builder.add_edge("right", "right2")
    builder.add_edge("left", "joined")
    builder.add_edge("right2", "joined")
    builder.add_edge("joined", END)
    return builder


def writing() -> StateGraph[Any]:
    def write(state: State) -> State:
        for n in range(3):
            get_stream_writer()({"n": n})
        return {"log": ["write"]}

    builder = StateGraph(State)
    builder.add_node("write", write)
    builder.add_node("again", write)
    builder.add_edge(START, "write")
    builder.add_edge("write", "again")
    builder.add_edge("again", END)
    return builder


def failing() -> StateGraph[Any]:
    def fail(state: State) -> State:
        raise ValueError("boom")

    builder = StateGraph(State)
    builder.add_node("first", says("first"))
    builder.add_node("fail", fail)
    builder.add_edge(START, "first")
    builder.add_edge("first", "fail")
    builder.add_edge("fail", END)
    return builder


GRAPHS: dict[str, tuple[Graph, int]] = {
    "one node": (compiled(chain("a")), 1),
    "chain": (compiled(chain("a", "b", "c")), 3),
    "chain of sync nodes": (compiled(chain("a", "b", "c", make=says_in_a_thread)), 3),
    "fan": (compiled(fan("a", "b", "c")), 2),
    "loop": (compiled(looping()), 4),
    "map and reduce": (compiled(mapping()), 3),
    "command": (compiled(commanding()), 2),
    "subgraph": (compiled(nesting()), 3),
    "deferred": (compiled(deferring()), 3),
    "custom events": (compiled(writing()), 2),
    "failure": (compiled(failing()), 2),
}


@pytest.mark.parametrize(("graph", "calls"), [pytest.param(*case, id=name) for name, case in GRAPHS.items()])
async def test_a_stepped_run_comes_to_the_same_as_a_whole_one(pool: Pool, graph: Graph, calls: int) -> None:
    # One call a superstep; the input's own superstep comes with the first.
    assert (await both(pool, graph, {"log": ["in"]})).calls == calls
    await both(pool, graph, {"log": ["in"]}, {"log": ["again"]})


@pytest.mark.parametrize("name", ["subgraph", "chain", "map and reduce"])
async def test_subgraphs_are_shown_the_same(pool: Pool, name: str) -> None:
    graph, calls = GRAPHS[name]
    assert (await both(pool, graph, {"log": ["in"]}, subgraphs=True)).calls == calls


@pytest.mark.parametrize("mode", ["tasks", "messages", "checkpoints", "debug"])
async def test_other_modes_have_as_many_events_of_each_kind(pool: Pool, mode: str) -> None:
    """They are full of ids and times; that the echo is dropped, and only that, shows in their number."""
    graph, _ = GRAPHS["chain"]
    stepped = await Thread(pool).stepped(graph, {"log": ["in"]}, stream_mode=[mode])
    whole = await Thread(pool).whole(graph, {"log": ["in"]}, stream_mode=[mode])

    def kinds(events: Any) -> list[Any]:
        return [(name, data.get("type"), data.get("step"), data.get("name")) for name, data in events]

    assert kinds(stepped.events) == kinds(whole.events)
    assert whole.events or mode == "messages"


async def test_the_nodes_of_the_next_step_are_announced(pool: Pool) -> None:
    found = await Thread(pool).stepped(GRAPHS["deferred"][0], {"log": []})
    assert found.announced == [["right2"], ["joined"]]
    found = await Thread(pool).stepped(GRAPHS["map and reduce"][0], {"log": []})
    assert found.announced == [["work"] * 4, ["reduce"]]


@pytest.mark.parametrize("in_thread", [False, True])
async def test_code_in_front_of_a_subgraph_runs_once_beside_a_quick_sibling(pool: Pool, in_thread: bool) -> None:
    """The sibling finishes early; the subgraph must not take the end of the step for its own."""
    seen = Counter[str]()

    def note(name: str) -> Any:
        def node(state: State) -> State:
            seen[name] += 1
            if name == "slow":
                time.sleep(0.05)
            return {"log": [name]}

        return node

    inner = compiled(chain("x", "slow", "y", make=note))

    async def deep(state: State) -> State:
        seen["before"] += 1
        await inner.ainvoke({"log": []})
        seen["after"] += 1
        return {"log": ["deep"]}

    def deep_in_a_thread(state: State) -> State:
        seen["before"] += 1
        inner.invoke({"log": []})
        seen["after"] += 1
        return {"log": ["deep"]}

    builder = StateGraph(State)
    builder.add_node("deep", deep_in_a_thread if in_thread else deep)
    builder.add_node("quick", note("quick"))
    builder.add_node("last", note("last"))
    for name in ("deep", "quick"):
        builder.add_edge(START, name)
    builder.add_edge(["deep", "quick"], "last")
    found = await Thread(pool).stepped(compiled(builder), {"log": []})
    assert (found.calls, found.values["log"]) == (2, ["deep", "quick", "last"])
    assert seen == dict.fromkeys(("before", "x", "slow", "y", "after", "quick", "last"), 1)


async def test_a_subgraph_beside_a_subgraph_is_not_cut_either(pool: Pool) -> None:
    builder = StateGraph(State)
    builder.add_node("one", compiled(chain("x", "y")))
    builder.add_node("two", compiled(chain("p", "q", "r", "s")))
    builder.add_node("last", says("last"))
    for name in ("one", "two"):
        builder.add_edge(START, name)
    builder.add_edge(["one", "two"], "last")
    # Without updates: which of two nodes is first to end is chance.
    found = await both(pool, compiled(builder), {"log": ["in"]}, stream_mode=["values"])
    assert found.calls == 2
    seen = Counter(found.values["log"])
    assert {name: seen[name] for name in "xypqrs"} == dict.fromkeys("xypqrs", 1)


async def test_a_cached_node_is_a_step_like_any_other(pool: Pool) -> None:
    ran: list[str] = []

    def costly(state: State) -> State:
        ran.append("costly")
        return {"count": len(ran)}

    def build(cache: InMemoryCache[Any]) -> Graph:
        builder = StateGraph(State)
        builder.add_node("first", says("first"))
        builder.add_node("costly", costly, cache_policy=CachePolicy(key_func=lambda _: b"always"))
        builder.add_node("last", says("last"))
        for source, target in zip([START, "first", "costly", "last"], ["first", "costly", "last", END], strict=True):
            builder.add_edge(source, target)
        return compiled(builder, cache=cache)

    graph = build(InMemoryCache())
    cold = await Thread(pool).stepped(graph, {"log": ["in"]})
    warm = await Thread(pool).stepped(graph, {"log": ["in"]})
    whole = await Thread(pool).whole(graph, {"log": ["in"]})
    assert ran == ["costly"]
    assert cold.calls == warm.calls == 3
    assert cold.values == warm.values == whole.values
    assert warm.events == whole.events


async def test_a_functional_graph_is_one_superstep(pool: Pool) -> None:
    ran = Counter[str]()

    @task
    async def double(n: int) -> int:
        ran["double"] += 1
        return 2 * n

    @entrypoint()
    async def workflow(numbers: list[int]) -> list[int]:
        ran["workflow"] += 1
        return [await double(n) for n in numbers]

    stepped = await Thread(pool).stepped(cast(Graph, workflow), [1, 2, 3])
    assert (stepped.status, stepped.calls) == ("success", 1)
    assert ran == {"double": 3, "workflow": 1}
    whole = await Thread(pool).whole(cast(Graph, workflow), [1, 2, 3])
    assert stepped.differences(whole) == {}
    assert ("values", [2, 4, 6]) in stepped.events


def asking() -> StateGraph[Any]:
    def ask(state: State) -> State:
        return {"log": [f"{interrupt('first?')}, {interrupt('second?')}"]}

    builder = StateGraph(State)
    builder.add_node("before", says("before"))
    builder.add_node("ask", ask)
    builder.add_node("after", says("after"))
    for source, target in zip([START, "before", "ask", "after"], ["before", "ask", "after", END], strict=True):
        builder.add_edge(source, target)
    return builder


async def test_interrupts_are_the_same_in_a_stepped_run(pool: Pool) -> None:
    graph = compiled(asking())
    asked = await both(pool, graph, {"log": ["in"]})
    assert (asked.status, asked.next, asked.interrupts, asked.calls) == ("success", ("ask",), ["first?"], 2)
    half = await both(pool, graph, {"log": ["in"]}, resume("one"))
    assert (half.next, half.interrupts, half.calls) == (("ask",), ["second?"], 1)
    done = await both(pool, graph, {"log": ["in"]}, resume("one"), resume("two"))
    assert (done.next, done.calls) == ((), 2)
    assert done.values["log"] == ["in", "before", "one, two", "after"]


async def test_interrupts_in_a_subgraph_are_the_same_in_a_stepped_run(pool: Pool) -> None:
    builder = StateGraph(State)
    builder.add_node("sub", compiled(asking()))
    builder.add_node("last", says("last"))
    builder.add_edge(START, "sub")
    builder.add_edge("sub", "last")
    done = await both(pool, compiled(builder), {"log": ["in"]}, resume("one"), resume("two"))
    assert (done.next, done.calls, done.values["log"][-1]) == ((), 2, "last")


BREAKPOINTS: list[dict[str, Any]] = [
    {"interrupt_before": "*"},
    {"interrupt_after": "*"},
    {"interrupt_before": ["b"]},
    {"interrupt_after": ["a", "c"]},
    {"interrupt_before": ["b"], "interrupt_after": ["b"]},
    {"interrupt_before": ["nobody"]},
]


@pytest.mark.parametrize("breakpoints", BREAKPOINTS, ids=str)
@pytest.mark.parametrize("name", ["chain", "fan"])
async def test_breakpoints_stop_a_stepped_run_where_they_stop_a_whole_one(
    pool: Pool, name: str, breakpoints: dict[str, Any]
) -> None:
    graph, _ = GRAPHS[name]
    inputs: list[Any] = [{"log": ["in"]}]
    while (found := await both(pool, graph, *inputs, **breakpoints)).next:
        inputs.append(None)
        assert len(inputs) < 9
    assert found.next == ()
    assert found.values["log"][0] == "in"
    assert found.values["log"][-1] in ("c", "done")


async def test_a_stopped_run_goes_on_with_null_input_as_a_whole_one_does(pool: Pool) -> None:
    done = await both(pool, GRAPHS["chain"][0], {"log": ["in"]}, {"log": ["more"]}, None)
    assert done.values["log"] == ["in", "a", "b", "c", "more", "a", "b", "c"]


async def test_null_input_on_a_fresh_thread_is_the_same_error(pool: Pool) -> None:
    found = await both(pool, GRAPHS["chain"][0], None)
    assert (found.status, found.error["error"]) == ("error", "EmptyInputError")


async def test_a_failed_node_is_tried_again_with_null_input(pool: Pool) -> None:
    found = await both(pool, GRAPHS["failure"][0], {"log": ["in"]}, None)
    assert (found.status, found.next, found.calls) == ("error", ("fail",), 1)
    assert found.error == {"error": "ValueError", "message": "boom"}


async def test_retries_of_a_node_are_langgraphs(pool: Pool) -> None:
    tries: list[int] = []

    def shaky(state: State) -> State:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("not yet")
        return {"log": ["shaky"]}

    builder = StateGraph(State)
    builder.add_node("shaky", shaky, retry_policy=RetryPolicy(initial_interval=0.01, max_attempts=3))
    builder.add_node("last", says("last"))
    builder.add_edge(START, "shaky")
    builder.add_edge("shaky", "last")
    found = await Thread(pool).stepped(compiled(builder), {"log": []})
    assert (found.status, found.calls, found.values["log"], len(tries)) == ("success", 2, ["shaky", "last"], 3)


def limits() -> list[tuple[int, int]]:
    return [(length, limit) for length in range(1, 5) for limit in range(1, length + 3)]


@pytest.mark.parametrize(("length", "limit"), limits())
async def test_the_recursion_limit_is_langgraphs_own(pool: Pool, length: int, limit: int) -> None:
    graph = compiled(chain(*(f"n{n}" for n in range(length))))
    ours = await Thread(pool).stepped(graph, {"log": []}, config={"recursion_limit": limit})
    theirs = Thread(pool)
    config: Any = {"configurable": {"thread_id": str(theirs.thread_id)}, "recursion_limit": limit}
    bare = graph.copy({"checkpointer": theirs.saver})
    message = None
    try:
        await bare.ainvoke({"log": []}, config)
    except GraphRecursionError as error:
        message = str(error)
    state = await bare.aget_state(config)
    assert ours.status == ("error" if message else "success")
    assert (ours.values, ours.next) == (state.values, state.next)
    if message:
        assert ours.error == {"error": "GraphRecursionError", "message": message}


@pytest.mark.parametrize("limit", range(1, 6))
async def test_the_recursion_limit_counts_anew_in_a_run_that_goes_on(pool: Pool, limit: int) -> None:
    config = {"recursion_limit": limit}
    await both(pool, compiled(asking()), {"log": ["in"]}, resume("one"), resume("two"), config=config)
    await both(pool, GRAPHS["chain"][0], {"log": ["in"]}, None, None, config=config)
    await both(pool, GRAPHS["chain"][0], {"log": ["in"]}, {"log": ["more"]}, config=config, interrupt_before=["b"])


@pytest.mark.parametrize("limit", range(1, 6))
@pytest.mark.parametrize("name", ["loop", "fan", "map and reduce", "subgraph", "deferred"])
async def test_the_recursion_limit_ends_a_stepped_run_where_it_ends_a_whole_one(
    pool: Pool, name: str, limit: int
) -> None:
    await both(pool, GRAPHS[name][0], {"log": ["in"]}, config={"recursion_limit": limit})


@pytest.mark.parametrize("limit", [1, 2, 3, 25])
async def test_a_first_step_that_is_repeated_runs_as_far_as_it_would_have(pool: Pool, limit: int) -> None:
    """Also when the attempt before has left no more than the checkpoint of the input, which no node has seen yet."""
    graph, config = compiled(chain("a", "b", "c")), {"recursion_limit": limit}
    first = await Thread(pool).stepped(graph, {"log": ["in"]}, config=config)
    again = await Thread(pool).from_input(graph, {"log": ["in"]}, config=config)
    assert (again.calls, again.announced, again.values) == (first.calls, first.announced, first.values)
    assert (again.status, again.error) == (first.status, first.error)


async def test_a_graph_waits_between_its_events_for_who_takes_them(pool: Pool) -> None:
    entered, gate = asyncio.Event(), asyncio.Event()

    async def room() -> None:
        if len(thread.shown) >= 3:
            entered.set()
            await gate.wait()

    thread = Thread(pool, room=room)
    running = asyncio.create_task(thread.whole(compiled(chain(*"abcdefgh")), {"log": []}))
    async with asyncio.timeout(20):
        await entered.wait()
    # Nothing asks the graph for its next event, so it does not go on either.
    assert len(thread.shown) == 3
    gate.set()
    outcome = await running
    assert outcome.values["log"] == list("abcdefgh")
