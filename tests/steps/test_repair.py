"""A conversation that was cut off is made whole before a run adds to it, whatever the shape of its graph."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict, cast

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph, add_messages
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from durathread.db.pool import Pool
from durathread.db.saver import Saver
from durathread.graphs.registry import Graph
from durathread.steps.conversations import STOPPED, Incoming, Text, closed, incoming
from durathread.steps.repair import is_asked, repair
from durathread.steps.superstep import run_config
from tests.eventually import eventually
from tests.steps.stepping import Thread

Script = Callable[[Sequence[BaseMessage]], AIMessage]


def problem(messages: Sequence[BaseMessage]) -> str | None:
    """Say why a provider would refuse a conversation: each call has its result directly after it, and once."""
    due = set[str]()
    for message in messages:
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in due:
                return f"{message.tool_call_id} answers no call"
            due.discard(message.tool_call_id)
            continue
        if due:
            break
        due = {str(call["id"]) for call in message.tool_calls} if isinstance(message, AIMessage) else set()
    return f"no result of {sorted(due)}" if due else None


class Strict(BaseChatModel):
    """Refuses what providers refuse, and calls the tools that the question names."""

    @property
    def _llm_type(self) -> str:
        return "strict"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        if refused := problem(messages):
            raise ValueError(refused)
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages))])

    def _answer(self, messages: list[BaseMessage]) -> AIMessage:
        last = messages[-1]
        if isinstance(last, HumanMessage) and str(last.content).startswith("use "):
            names = str(last.content).split()[1:]
            calls: Any = [{"name": name, "args": {}, "id": f"{name}-1"} for name in names]
            return AIMessage("Let me look.", tool_calls=calls)
        return AIMessage("Done.")


@dataclass
class Gates:
    """Where tools are, and what lets them go on."""

    entered: set[str] = field(default_factory=set[str])
    released: threading.Event = field(default_factory=threading.Event)


GATES = Gates()


@pytest.fixture(autouse=True)
def gates() -> Any:
    GATES.entered.clear()
    GATES.released.clear()
    yield GATES
    GATES.released.set()


@tool
async def quick() -> str:
    """Return at once."""
    return "quick is done"


@tool
async def slow() -> str:
    """Return when somebody lets it."""
    GATES.entered.add("slow")
    await asyncio.Event().wait()
    return "slow is done"


@tool
def blocking() -> str:
    """Block a thread."""
    GATES.entered.add("blocking")
    GATES.released.wait(60)
    return "blocking is done"


@tool
async def ask() -> str:
    """Ask a person."""
    return str(interrupt("may I?"))


TOOLS = [quick, slow, blocking, ask]


def agent(**options: Any) -> Any:
    return create_agent(Strict(), TOOLS, **options)


class Talk(TypedDict):
    talk: Annotated[list[AnyMessage], add_messages]
    other: str


class Model(BaseModel):
    messages: Annotated[list[AnyMessage], add_messages] = []


def by_hand(schema: Any, key: str) -> StateGraph[Any]:
    """Build an agent without LangChain, whose conversation has a name of its own."""

    async def model(state: Any) -> Any:
        messages = state[key] if isinstance(state, dict) else getattr(state, key)
        return {key: [await Strict().ainvoke(messages)]}

    def goes_on(state: Any) -> str:
        messages = state[key] if isinstance(state, dict) else getattr(state, key)
        return "tools" if messages[-1].tool_calls else END

    builder = StateGraph(schema).add_node("model", model).add_node("tools", ToolNode(TOOLS, messages_key=key))
    builder.add_edge(START, "model").add_conditional_edges("model", goes_on, ["tools", END])
    return builder.add_edge("tools", "model")


def around(inner: Any, name: str = "inner") -> StateGraph[Any]:
    return StateGraph(MessagesState).add_node(name, inner).add_edge(START, name)


SHAPES: dict[str, tuple[Any, str]] = {
    "agent": (agent(), "messages"),
    "renamed": (by_hand(Talk, "talk").compile(), "talk"),
    "pydantic": (by_hand(Model, "messages").compile(), "messages"),
    "subgraph": (around(agent()).compile(), "messages"),
    "twice_nested": (around(around(agent(), "within").compile()).compile(), "messages"),
    "with_memory": (around(agent(checkpointer=True)).compile(), "messages"),
}


class Cut(Thread):
    """A thread whose turns are cut off."""

    def __init__(self, pool: Pool, graph: Any, key: str = "messages") -> None:
        super().__init__(pool)
        self.pool, self.key, self.bare = pool, key, cast(Graph, graph)

    @property
    def graph(self) -> Graph:
        return self.bare.copy({"checkpointer": Saver(self.pool)})

    @property
    def config(self) -> Any:
        return {"configurable": {"thread_id": str(self.thread_id)}}

    def given(self, text: str) -> Any:
        return {self.key: [{"role": "user", "content": text}]}

    async def say(self, text: str) -> list[BaseMessage]:
        """Add to the conversation, and return it."""
        return (await self.graph.ainvoke(self.given(text), self.config))[self.key]

    @asynccontextmanager
    async def turn(self, text: str) -> AsyncGenerator[None]:
        """Begin a turn, and cut it off at the end of the block."""
        saver = Saver(self.pool)
        running = asyncio.create_task(
            self.bare.copy({"checkpointer": saver}).ainvoke(self.given(text), self.config, durability="sync")
        )
        try:
            yield
        finally:
            saver.seal()
            running.cancel()
            GATES.released.set()
            await asyncio.wait([running])

    async def cut_off(self, text: str, at: str, *, done: int = 0) -> None:
        """Cut a turn off while a tool works, and so many others have returned."""

        async def there() -> bool:
            return at in GATES.entered and await self.results() == done

        async with self.turn(text):
            await eventually(there, what=f"{at} works, {done} others are done")

    async def results(self) -> int:
        async with self.pool.connection() as conn:
            query = "SELECT count(DISTINCT task_id) AS n FROM checkpoint_writes WHERE thread_id = %s AND channel = %s AND task_path LIKE '%%push%%'"
            row = await (await conn.execute(query, (str(self.thread_id), self.key))).fetchone()
        return row["n"] if row else 0

    async def repaired(self, given: Any = None, **kwargs: Any) -> bool:
        """Repair, as the first step of a run does that says something."""
        run = self.run_of(input=self.given("go on") if given is None else given, on_interrupt="repair", **kwargs)
        config = run_config(run, begun=False)
        assert is_asked(run, run.options.input)

        async def heard(tasks: Any) -> dict[str, Text]:
            return {task: Text("partly", "It seems that") for task in tasks}

        return await repair(self.graph, run, config=config, saver=Saver(self.pool), heard=heard)

    async def messages(self) -> list[BaseMessage]:
        return (await self.graph.aget_state(self.config)).values.get(self.key, [])

    async def history(self) -> list[Any]:
        return [each async for each in self.graph.aget_state_history(self.config)]


def told(messages: Sequence[BaseMessage]) -> list[str]:
    return [str(message.content) for message in messages]


@pytest.mark.parametrize("shape", SHAPES)
async def test_open_calls_are_closed_and_finished_ones_kept(pool: Pool, shape: str) -> None:
    cut = Cut(pool, *SHAPES[shape])
    parallel = shape not in ("renamed", "pydantic")
    await cut.cut_off("use quick slow", "slow", done=1 if parallel else 0)
    before = len(await cut.history())
    assert await cut.repaired()
    messages = await cut.messages()
    first = "quick is done" if parallel else STOPPED
    assert told(messages) == ["use quick slow", "Let me look.", first, STOPPED]
    assert [getattr(each, "status", None) for each in messages[2:]] == ["success" if parallel else "error", "error"]
    [repairing, *rest] = await cut.history()
    assert len(rest) == before
    assert (repairing.metadata["source"], repairing.metadata["durathread"]["repair"]) == ("update", True)
    assert repairing.next == ()
    assert told(await cut.say("go on"))[-2:] == ["go on", "Done."]


@pytest.mark.parametrize("shape", ["agent", "renamed", "with_memory"])
async def test_without_a_repair_the_next_message_is_refused(pool: Pool, shape: str) -> None:
    cut = Cut(pool, *SHAPES[shape])
    await cut.cut_off("use slow", "slow")
    with pytest.raises(ValueError, match="no result of"):
        await cut.say("go on")


async def test_a_tool_that_blocks_its_thread_is_closed_too(pool: Pool) -> None:
    cut = Cut(pool, agent())
    await cut.cut_off("use quick blocking", "blocking", done=1)
    assert await cut.repaired()
    assert told(await cut.messages())[2:] == ["quick is done", STOPPED]


async def test_a_repair_is_made_once(pool: Pool) -> None:
    cut = Cut(pool, agent())
    await cut.cut_off("use slow", "slow")
    assert await cut.repaired()
    assert not await cut.repaired()
    assert len(told(await cut.messages())) == 3


async def test_what_is_whole_is_left_alone(pool: Pool) -> None:
    cut = Cut(pool, agent())
    assert not await cut.repaired()
    await cut.say("use quick")
    before = len(await cut.history())
    assert not await cut.repaired()
    assert len(await cut.history()) == before


async def test_a_conversation_that_was_broken_long_ago_is_put_in_order(pool: Pool) -> None:
    cut = Cut(pool, agent())
    await cut.cut_off("use slow", "slow")
    with pytest.raises(ValueError, match="no result of"):
        await cut.say("and then?")
    assert await cut.repaired()
    assert told(await cut.messages()) == ["use slow", "Let me look.", STOPPED, "and then?"]
    assert told(await cut.say("go on"))[-1] == "Done."


async def test_a_question_that_waits_is_closed_by_a_new_message(pool: Pool) -> None:
    cut = Cut(pool, agent())
    await cut.say("use ask quick")
    [question] = (await cut.graph.aget_state(cut.config)).interrupts
    assert question.value == "may I?"
    assert await cut.repaired()
    state = await cut.graph.aget_state(cut.config)
    assert (state.interrupts, state.next) == ((), ())
    assert sorted(told(state.values["messages"])[2:]) == sorted([STOPPED, "quick is done"])
    assert problem(state.values["messages"]) is None


async def test_a_run_that_answers_or_goes_on_repairs_nothing(pool: Pool) -> None:
    run = Cut(pool, agent()).run_of(on_interrupt="repair")
    assert not is_asked(run, None)
    assert not is_asked(run, Command(resume="yes"))
    assert not is_asked(Cut(pool, agent()).run_of(), {"messages": []})


async def test_a_client_that_brings_the_result_of_its_own_tool_is_not_forestalled(pool: Pool) -> None:
    cut = Cut(pool, agent(interrupt_before=["tools"]))
    await cut.say("use quick slow")
    result = {"role": "tool", "tool_call_id": "slow-1", "content": "the browser's own"}
    assert await cut.repaired({"messages": [result]})
    assert told(await cut.messages())[2:] == [STOPPED]
    state = await cut.graph.ainvoke({"messages": [result]}, cut.config)
    assert problem(state["messages"]) is None


async def test_a_run_that_goes_back_to_the_middle_of_a_turn_begins_with_it_repaired(pool: Pool) -> None:
    cut = Cut(pool, agent())
    await cut.say("use quick")
    await cut.say("thanks")
    middle = next(each for each in await cut.history() if each.next == ("tools",))
    at = middle.config["configurable"]["checkpoint_id"]
    assert await cut.repaired(config={"configurable": {"checkpoint_id": at}})
    # The call had come to its end on the way that the thread has left.
    assert told(await cut.messages()) == ["use quick", "Let me look.", "quick is done"]


async def test_a_run_that_goes_back_to_a_whole_turn_finds_just_that(pool: Pool) -> None:
    cut = Cut(pool, agent())
    await cut.say("use quick")
    first = next(each for each in await cut.history() if each.next == ("model",))
    at = first.config["configurable"]["checkpoint_id"]
    before = len(await cut.history())
    assert not await cut.repaired(config={"configurable": {"checkpoint_id": at}})
    assert len(await cut.history()) == before


class Stalling(Strict):
    """Says nothing for ever."""

    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        GATES.entered.add("model")
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize("nested", [False, True])
async def test_what_a_model_had_said_is_kept_and_marked(pool: Pool, nested: bool) -> None:
    inner = create_agent(Stalling(), TOOLS)
    cut = Cut(pool, around(inner).compile() if nested else inner)

    async def entered() -> bool:
        return "model" in GATES.entered

    async with cut.turn("tell me"):
        await eventually(entered, what="the model is asked")
    assert await cut.repaired()
    [_, said] = await cut.messages()
    assert (said.content, said.id, said.response_metadata) == (
        "It seems that",
        "partly",
        {"durathread": {"interrupted": True}},
    )
    assert not await cut.repaired()


class Chosen(MessagesState):
    choice: str


async def test_what_finished_tasks_have_written_is_left_out_where_it_cannot_be_applied(pool: Pool) -> None:
    async def first(state: Any) -> Any:
        return {"choice": "first"}

    async def second(state: Any) -> Any:
        return {"choice": "second"}

    async def calls(state: Any) -> Any:
        return {"messages": [call("slow")]}

    builder = StateGraph(Chosen).add_node("calls", calls).add_node("tools", ToolNode(TOOLS))
    builder.add_node("first", first).add_node("second", second).add_edge(START, "calls")
    for name in ("first", "second", "tools"):
        builder.add_edge("calls", name)
    cut = Cut(pool, builder.compile())

    async def written() -> bool:
        async with pool.connection() as conn:
            query = "SELECT count(*) AS n FROM checkpoint_writes WHERE thread_id = %s AND channel = 'choice'"
            row = await (await conn.execute(query, (str(cut.thread_id),))).fetchone()
        return bool(row and row["n"] == 2 and "slow" in GATES.entered)

    async with cut.turn("go"):
        await eventually(written, what="two have chosen")
    assert await cut.repaired()
    assert told(await cut.messages()) == ["go", "", STOPPED]


def call(name: str) -> AIMessage:
    return AIMessage("", id=f"of {name}", tool_calls=[{"name": name, "args": {}, "id": name}])


def result(name: str) -> ToolMessage:
    return ToolMessage(f"{name} is done", tool_call_id=name, id=f"result of {name}")


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([call("a")], ["", STOPPED]),
        ([call("a"), result("a")], ["", "a is done"]),
        ([call("a"), HumanMessage("b")], ["", STOPPED, "b"]),
        ([call("a"), HumanMessage("b"), result("a")], ["", "a is done", "b"]),
        ([call("a"), HumanMessage("b"), call("a"), result("a")], ["", STOPPED, "b", "", "a is done"]),
        ([call("a"), call("b"), result("b")], ["", STOPPED, "", "b is done"]),
    ],
)
def test_results_stand_directly_after_their_calls(messages: list[BaseMessage], expected: list[str]) -> None:
    found = closed(messages, Incoming())
    assert told(found) == expected
    assert problem(found) is None
    assert closed(found, Incoming()) == found


def test_calls_whose_arguments_are_no_json_are_closed_too() -> None:
    broken: Any = [{"name": "a", "args": "{", "id": "a", "error": None, "type": "invalid_tool_call"}]
    assert told(closed([AIMessage("", invalid_tool_calls=broken)], Incoming())) == ["", STOPPED]


def test_an_input_that_takes_a_message_away_has_its_calls_left_alone() -> None:
    said = incoming({"messages": [{"type": "remove", "id": "of a", "content": ""}]})
    assert told(closed([call("a"), call("b")], said)) == ["", "", STOPPED]
    assert incoming({"messages": [{"type": "remove", "id": "__remove_all__"}]}).replaces_all
