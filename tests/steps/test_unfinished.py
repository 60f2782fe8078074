"""A node counts once it is through, its edges included: whatever cancels it, and however it takes that."""

import asyncio
import operator
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated, Any, Literal, LiteralString, TypedDict, cast

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send

from durathread.db.pool import Pool, connection
from durathread.db.saver import Saver
from durathread.errors import Fenced, Unfinished
from durathread.events.emitter import Emitter
from durathread.events.transformed import Transformed
from durathread.graphs.registry import Graph
from durathread.steps.superstep import Result, run_config, superstep
from durathread.steps.tracing import Trace
from tests.eventually import eventually
from tests.steps.stepping import Thread


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


class Gate:
    """Holds one place of a graph, the first time it is reached, and says so."""

    def __init__(self, place: str, manner: str = "yields") -> None:
        self.place, self.manner = place, manner
        self.reached, self.open = asyncio.Event(), asyncio.Event()
        self.ran: list[str] = []
        self.armed = True

    async def pass_(self, place: str) -> None:
        self.ran.append(place)
        if place != self.place or not self.armed:
            return
        self.armed = False
        self.reached.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            if self.manner == "swallows":
                return
            if self.manner == "translates":
                raise ConnectionError("the model hung up") from None
            raise


def node(gate: Gate, name: str) -> Any:
    async def run(state: State) -> State:
        await gate.pass_(name)
        return {"log": [name]}

    return run


def routed(gate: Gate) -> StateGraph[Any]:
    """`draft`, a conditional edge that thinks, `publish`."""

    async def route(state: State) -> Literal["publish"]:
        await gate.pass_("route")
        return "publish"

    builder = StateGraph(State)
    builder.add_node("draft", node(gate, "draft"))
    builder.add_node("publish", node(gate, "publish"))
    builder.add_edge(START, "draft")
    builder.add_conditional_edges("draft", route)
    builder.add_edge("publish", END)
    return builder


def begun(gate: Gate) -> StateGraph[Any]:
    """A conditional edge at the very beginning."""

    async def route(state: State) -> Literal["draft"]:
        await gate.pass_("route")
        return "draft"

    builder = StateGraph(State)
    builder.add_node("draft", node(gate, "draft"))
    builder.add_conditional_edges(START, route)
    builder.add_edge("draft", END)
    return builder


def inside(gate: Gate) -> StateGraph[Any]:
    """The same as `routed`, in a subgraph, with a node after it."""
    builder = StateGraph(State)
    inner = routed(gate).compile()

    async def sub(state: State) -> State:
        found = await inner.ainvoke({"log": []})
        return {"log": found["log"]}

    builder.add_node("sub", sub)
    builder.add_node("after", node(gate, "after"))
    builder.add_edge(START, "sub")
    builder.add_edge("sub", "after")
    builder.add_edge("after", END)
    return builder


def commanding(gate: Gate) -> StateGraph[Any]:
    """A node that says itself where to go."""

    async def draft(state: State) -> Command[Literal["publish"]]:
        await gate.pass_("draft")
        return Command(goto="publish", update={"log": ["draft"]})

    builder = StateGraph(State)
    builder.add_node("draft", draft)
    builder.add_node("publish", node(gate, "publish"))
    builder.add_edge(START, "draft")
    return builder


def sending(gate: Gate) -> StateGraph[Any]:
    """A router that sends three, each of which has a router of its own."""

    async def route(state: State) -> list[Send]:
        await gate.pass_("route")
        return [Send("work", {"log": [str(n)]}) for n in range(3)]

    async def work(state: State) -> State:
        name = f"work{state.get('log', [''])[0]}"
        await gate.pass_(name)
        return {"log": [name]}

    async def then(state: State) -> Literal["publish"]:
        await gate.pass_("then")
        return "publish"

    builder = StateGraph(State)
    builder.add_node("draft", node(gate, "draft"))
    builder.add_node("work", work)
    builder.add_node("publish", node(gate, "publish"))
    builder.add_edge(START, "draft")
    builder.add_conditional_edges("draft", route, ["work"])
    builder.add_conditional_edges("work", then)
    return builder


def functional(gate: Gate) -> Graph:
    """An entrypoint with two tasks."""

    @task
    async def draft() -> str:
        await gate.pass_("draft")
        return "draft"

    @task
    async def publish() -> str:
        await gate.pass_("publish")
        return "publish"

    @entrypoint()
    async def whole(given: dict[str, Any]) -> dict[str, Any]:
        return {"log": [*given["log"], await draft(), await publish()]}

    return cast(Graph, whole)


class Attempts:
    """Attempts at the run of a graph, one superstep after the other, as activities make them."""

    def __init__(self, pool: Pool, graph: Any, **kwargs: Any) -> None:
        self.pool = pool
        self.thread = Thread(pool)
        self.run = self.thread.run_of(**kwargs)
        self.graph = cast(Graph, graph.compile() if isinstance(graph, StateGraph) else graph)
        self.saver = Saver(pool)
        self.limit: int | None = None
        self.repeated = False
        self.again = False

    async def attempt(self, *, whole: bool = False) -> Result:
        """Go on to the end, or until something is raised."""
        while True:
            self.saver = Saver(self.pool)
            graph = self.graph.copy({"checkpointer": self.saver})
            begun = await self.saver.alatest(str(self.thread.thread_id)) is not None
            emitter = Emitter(lambda name, data: None, modes=["values"], subgraphs=False, resumed=False)
            run = replace(self.run, repeated=self.repeated)
            result = await superstep(
                graph,
                run,
                given=None if begun else {"log": ["in"]},
                config=run_config(run, begun=begun),
                limit=self.limit,
                whole=whole,
                emitter=emitter,
                trace=Trace(graph, self.run, {}),
                transformed=Transformed(None, emitter.calls),
                again=self.again,
            )
            if result.status != "continue":
                return result
            self.limit, self.repeated, self.again = result.limit, False, False

    async def cancelled(
        self, gate: Gate, *, once: Callable[[], Awaitable[bool]] | None = None, by_server: bool = True
    ) -> BaseException | None:
        """Make an attempt that is given up at the gate, as the activity does it; return what it raised."""
        working = asyncio.create_task(self.attempt())
        await asyncio.wait(
            [working, waiting := asyncio.create_task(gate.reached.wait())], return_when="FIRST_COMPLETED"
        )
        waiting.cancel()
        assert not working.done(), working.result()
        if once is not None:
            await eventually(once)
        if by_server:
            self.saver.seal()
        working.cancel()
        await asyncio.wait([working])
        self.repeated = True
        return None if working.cancelled() else working.exception()

    def config(self) -> RunnableConfig:
        return {"configurable": {"thread_id": str(self.thread.thread_id)}}


LOGS = {
    routed: ["in", "draft", "publish"],
    begun: ["in", "draft"],
    inside: ["in", "draft", "publish", "after"],
    commanding: ["in", "draft", "publish"],
    sending: ["in", "draft", "work0", "work1", "work2", "publish"],
    functional: ["in", "draft", "publish"],
}
PLACES = [
    (routed, "draft"),
    (routed, "route"),
    (routed, "publish"),
    (begun, "route"),
    (inside, "draft"),
    (inside, "route"),
    (inside, "publish"),
    (inside, "after"),
    (commanding, "draft"),
    (sending, "route"),
    (sending, "work1"),
    (sending, "then"),
    (functional, "draft"),
    (functional, "publish"),
]


@pytest.mark.parametrize("manner", ["yields", "swallows", "translates"])
@pytest.mark.parametrize(("build", "place"), PLACES)
async def test_a_run_that_is_given_up_anywhere_is_finished_by_the_next_attempt(
    pool: Pool, build: Any, place: str, manner: str
) -> None:
    gate = Gate(place, manner)
    attempts = Attempts(pool, build(gate))
    await attempts.cancelled(gate)
    result = await attempts.attempt()
    assert result.status == "success"
    assert result.position is not None
    assert result.position.values["log"] == LOGS[build]


@pytest.mark.parametrize(
    ("build", "place"), [(routed, "route"), (begun, "route"), (sending, "route"), (sending, "then")]
)
async def test_what_earlier_versions_stored_of_cancelled_nodes_is_not_believed(
    pool: Pool, build: Any, place: str
) -> None:
    gate = Gate(place)
    attempts = Attempts(pool, build(gate))
    # LangGraph's own saver stores what those did.
    old = attempts.graph.copy({"checkpointer": AsyncPostgresSaver(cast(Any, pool))})
    config: RunnableConfig = {**attempts.config(), "run_id": attempts.run.run_id}
    working = asyncio.create_task(old.ainvoke({"log": ["in"]}, config))
    await gate.reached.wait()
    working.cancel()
    await asyncio.wait([working])
    result = await attempts.attempt()
    assert result.position is not None
    assert result.position.values["log"] == LOGS[build]


async def test_what_siblings_had_finished_stays(pool: Pool) -> None:
    gate = Gate("route")
    builder = routed(gate)
    builder.add_node("beside", node(gate, "beside"))
    builder.add_edge(START, "beside")
    attempts = Attempts(pool, builder)

    async def stored() -> bool:
        found = await Saver(pool).aget_tuple(attempts.config())
        return bool(found and found.pending_writes)

    await attempts.cancelled(gate, once=stored)
    result = await attempts.attempt()
    assert result.position is not None
    assert sorted(result.position.values["log"]) == ["beside", "draft", "in", "publish"]
    assert gate.ran.count("beside") == 1


def failing(gate: Gate, *, place: str, fails: asyncio.Event) -> StateGraph[Any]:
    """`routed`, whose place fails as long as an event is not set; a sibling waits at the gate in its router."""

    async def route(state: State) -> Literal["publish"]:
        gate.ran.append("route")
        if place == "route" and not fails.is_set():
            raise ValueError("no way")
        return "publish"

    async def beside(state: State) -> Literal["publish"]:
        await gate.pass_("beside's route")
        return "publish"

    async def fail(state: State) -> State:
        if place == "sibling" and not fails.is_set():
            await gate.reached.wait()
            raise ValueError("no way")
        return {"log": []}

    builder = StateGraph(State)
    for name in ("draft", "beside", "publish"):
        builder.add_node(name, node(gate, name))
    builder.add_node("fail", fail)
    for name in ("draft", "beside", "fail"):
        builder.add_edge(START, name)
    builder.add_conditional_edges("draft", route)
    builder.add_conditional_edges("beside", beside)
    return builder


@pytest.mark.parametrize("place", ["route", "sibling"])
async def test_a_run_that_failed_on_the_way_is_taken_up_where_it_failed(pool: Pool, place: str) -> None:
    gate, mended = Gate("beside's route" if place == "sibling" else ""), asyncio.Event()
    attempts = Attempts(pool, failing(gate, place=place, fails=mended))
    failed = await attempts.attempt()
    assert (failed.status, failed.error) == ("error", {"error": "ValueError", "message": "no way"})
    assert failed.position is not None
    assert failed.position.resting == "interrupted"
    again = await attempts.attempt()
    assert again.status == ("error" if place == "route" else again.status)
    mended.set()
    result = again if again.status == "success" else await attempts.attempt()
    assert result.position is not None
    assert sorted(result.position.values["log"]) == ["beside", "draft", "in", "publish"]
    # Nothing is left of the failure.
    async with connection(pool) as conn:
        query = "SELECT channel FROM checkpoint_writes WHERE thread_id = %s AND channel = '__error__'"
        assert await (await conn.execute(query, (str(attempts.thread.thread_id),))).fetchall() == []


async def test_a_failure_that_a_handler_takes_over_counts(pool: Pool) -> None:
    gate = Gate("handler")

    async def draft(state: State) -> State:
        gate.ran.append("draft")
        raise ValueError("no draft")

    builder = StateGraph(State)
    builder.add_node("draft", draft, error_handler=node(gate, "handler"))
    builder.add_node("publish", node(gate, "publish"))
    builder.add_edge(START, "draft")
    builder.add_edge("draft", "publish")
    attempts = Attempts(pool, builder)
    await attempts.cancelled(gate)
    result = await attempts.attempt()
    assert result.status == "success"
    assert gate.ran.count("draft") == 1
    assert gate.ran.count("handler") == 2


def cut(gate: Gate) -> StateGraph[Any]:
    """`routed`, whose router is cancelled by somebody else on the same loop."""

    async def route(state: State) -> Literal["publish"]:
        if gate.armed:
            gate.ran.append("route")
            # LangGraph's own, which it names for the node.
            for each in asyncio.all_tasks():
                if each.get_name() == "draft":
                    each.cancel()
            await asyncio.sleep(0)
        return "publish"

    builder = StateGraph(State)
    for name in ("draft", "beside", "publish"):
        builder.add_node(name, node(gate, name))
    # Beside another, LangGraph runs a node in a task of its own.
    builder.add_edge(START, "beside")
    builder.add_edge(START, "draft")
    builder.add_conditional_edges("draft", route)
    return builder


def cut_inside(gate: Gate) -> StateGraph[Any]:
    """The same in a subgraph."""
    builder = StateGraph(State)
    builder.add_node("sub", cut(gate).compile())
    builder.add_edge(START, "sub")
    return builder


@pytest.mark.parametrize(
    ("build", "whole"), [(cut, False), (cut, True), (cut_inside, False)], ids=["stepped", "whole", "in a subgraph"]
)
async def test_a_graph_that_goes_on_without_a_node_does_not_succeed(pool: Pool, build: Any, whole: bool) -> None:
    gate = Gate("")
    kwargs = {"durability": "exit"} if whole else {}
    attempts = Attempts(pool, build(gate), **kwargs)
    with pytest.raises(Unfinished, match=r"was cancelled"):
        await attempts.attempt(whole=whole)
    attempts.repeated = True
    if build is cut:
        # For another reason, the first time: a worker that was stopped, for instance.
        with pytest.raises(Unfinished, match=r"was cancelled"):
            await attempts.attempt(whole=whole)
        attempts.again = True
        result = await attempts.attempt(whole=whole)
        assert (result.status, (result.error or {})["error"]) == ("error", "Unfinished")
    gate.armed = attempts.again = False
    result = await attempts.attempt(whole=whole)
    assert result.position is not None
    assert {"draft", "publish"} <= set(result.position.values["log"])


async def test_a_step_that_somebody_else_cancels_is_repeated(pool: Pool) -> None:
    gate = Gate("route")
    attempts = Attempts(pool, routed(gate))
    assert isinstance(await attempts.cancelled(gate, by_server=False), Unfinished)
    result = await attempts.attempt()
    assert result.position is not None
    assert result.position.values["log"] == LOGS[routed]


async def test_a_task_that_its_own_graph_cancels_is_none_of_our_business(pool: Pool) -> None:
    @task
    async def slow() -> str:
        await asyncio.sleep(60)
        return "slow"

    @task
    async def fast() -> str:
        return "fast"

    @entrypoint()
    async def race(given: dict[str, Any]) -> str:
        running = {asyncio.ensure_future(slow()), asyncio.ensure_future(fast())}
        done, late = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for each in late:
            each.cancel()
        return done.pop().result()

    result = await Attempts(pool, race).attempt()
    assert result.status == "success"
    assert result.position is not None
    assert result.position.values == "fast"


@asynccontextmanager
async def forgetful(pool: Pool, thread_id: uuid.UUID) -> AsyncGenerator[None]:
    """Let the database lose the third checkpoint of a thread, as one does that fails over to a replica that lags."""
    name = f"lose_{thread_id.hex}"
    function = f"""
        CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RETURN CASE WHEN NEW.thread_id = '{thread_id}' AND (NEW.metadata ->> 'step')::int >= 2 THEN NULL ELSE NEW END;
        END $$
    """
    trigger = f"CREATE TRIGGER {name} BEFORE INSERT ON checkpoints FOR EACH ROW EXECUTE FUNCTION {name}()"
    async with connection(pool) as conn:
        await conn.execute(cast(LiteralString, function))
        await conn.execute(cast(LiteralString, trigger))
    try:
        yield
    finally:
        async with connection(pool) as conn:
            await conn.execute(cast(LiteralString, f"DROP FUNCTION {name} CASCADE"))


async def test_a_run_whose_last_checkpoint_is_not_there_does_not_succeed(pool: Pool) -> None:
    gate = Gate("")
    attempts = Attempts(pool, routed(gate))
    async with forgetful(pool, attempts.thread.thread_id):
        with pytest.raises(Unfinished, match="but the thread stands at"):
            await attempts.attempt()
        attempts.repeated = attempts.again = True
        result = await attempts.attempt()
        assert (result.status, (result.error or {})["error"]) == ("error", "Unfinished")
        assert result.position is not None
        assert str(result.position.checkpoint_id) in (result.error or {})["message"]
    result = await attempts.attempt()
    assert result.status == "success"
    assert result.position is not None
    assert result.position.values["log"] == LOGS[routed]


async def test_an_attempt_that_is_given_up_keeps_only_what_was_reached_before(pool: Pool) -> None:
    gate = Gate("route")
    attempts = Attempts(pool, routed(gate), durability="sync")
    working = asyncio.create_task(attempts.attempt())
    await gate.reached.wait()
    saver, clone = attempts.saver, attempts.saver.with_allowlist([("somewhere", "Thing")])
    found = await saver.aget_tuple(attempts.config())
    assert found is not None
    saver.seal()
    for each in (saver, clone):
        with pytest.raises(Fenced):
            await each.aput_writes(found.config, [("log", ["late"])], str(uuid.uuid4()))
        late = {**found.checkpoint, "id": "ffffffff-ffff-6fff-8fff-ffffffffffff"}
        with pytest.raises(Fenced):
            await each.aput(found.config, cast(Any, late), found.metadata, {})
        await each.aput(found.parent_config or found.config, found.checkpoint, found.metadata, {})
    working.cancel()
    await asyncio.wait([working])
    assert [item.checkpoint["id"] async for item in saver.alist(attempts.config(), limit=1)] == [found.checkpoint["id"]]


@pytest.mark.parametrize("table", ["checkpoints", "checkpoint_writes"])
@pytest.mark.parametrize("place", ["draft", "route", "publish"])
async def test_a_run_that_is_given_up_while_it_writes_is_finished_by_the_next_attempt(
    pool: Pool, table: str, place: str
) -> None:
    gate = Gate(place)
    attempts = Attempts(pool, routed(gate), durability="sync")
    working = asyncio.create_task(attempts.attempt())
    await gate.reached.wait()
    async with pool.connection() as conn, conn.transaction():
        await conn.execute(cast(LiteralString, f"LOCK TABLE {table} IN EXCLUSIVE MODE"))
        gate.open.set()

        async def waits() -> bool:
            query = "SELECT 1 FROM pg_locks WHERE relation = %s::regclass AND NOT granted"
            return bool(await (await conn.execute(query, (table,))).fetchall())

        await eventually(waits)
        attempts.saver.seal()
        working.cancel()
    await asyncio.wait([working])
    attempts.repeated = True
    result = await attempts.attempt()
    assert result.status == "success"
    assert result.position is not None
    assert result.position.values["log"] == LOGS[routed]
