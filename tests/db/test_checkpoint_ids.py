"""Checkpoints of machines whose clocks differ."""

import operator
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any, TypedDict
from uuid import UUID, uuid4

import pytest
from langgraph.checkpoint.base import id as langgraph_ids
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from durathread.db import checkpoint_ids
from durathread.db.checkpoint_ids import follow, is_before, uuid6
from durathread.db.pool import Pool
from durathread.db.saver import Saver
from durathread.errors import Unfinished
from tests.db.support import address, put


class Clock:
    """The machine's clock, as LangGraph reads it: so many nanoseconds off."""

    def __init__(self) -> None:
        self.off = 0

    def time_ns(self) -> int:
        return time.time_ns() + self.off

    def set_off(self, by: timedelta) -> None:
        """Be on a machine whose clock is off, in a process that has just begun."""
        self.off = int(by.total_seconds() * 10**9)
        langgraph_ids._last_v6_timestamp = None  # pyright: ignore[reportPrivateUsage]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(langgraph_ids, "time", clock)
    yield clock
    clock.set_off(timedelta())


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


def node(name: str) -> Any:
    async def run(_: State) -> State:
        return {"log": [name]}

    return run


def graph_on(saver: Saver) -> CompiledStateGraph[Any]:
    inner = StateGraph(State).add_node("deep", node("deep")).add_edge(START, "deep").compile(checkpointer=True)
    outer = StateGraph(State).add_node("inner", inner).add_node("end", node("end"))
    return outer.add_edge(START, "inner").add_edge("inner", "end").compile(checkpointer=saver)


async def test_what_a_machine_whose_clock_is_behind_adds_is_the_latest(
    pool: Pool, thread_id: str, clock: Clock
) -> None:
    config: Any = {"configurable": {"thread_id": thread_id}}
    logs = list[list[str]]()
    for ahead in (timedelta(hours=1), timedelta(), timedelta(minutes=-5)):
        # Each time another process, on another machine.
        clock.set_off(ahead)
        await graph_on(Saver(pool)).ainvoke({"log": ["in"]}, config)
        state = await graph_on(Saver(pool)).aget_state(config)
        logs.append(state.values["log"])
    assert [len(log) for log in logs] == sorted({len(log) for log in logs})
    history = [item async for item in graph_on(Saver(pool)).aget_state_history(config)]
    ids = [item.config["configurable"]["checkpoint_id"] for item in history]  # pyright: ignore[reportTypedDictNotRequiredAccess]
    parents = [item.parent_config["configurable"]["checkpoint_id"] for item in history if item.parent_config]  # pyright: ignore[reportTypedDictNotRequiredAccess]
    assert ids[1:] == parents


async def test_a_fork_on_a_machine_whose_clock_is_behind_is_the_latest(
    pool: Pool, thread_id: str, clock: Clock
) -> None:
    config: Any = {"configurable": {"thread_id": thread_id}}
    clock.set_off(timedelta(hours=1))
    await graph_on(Saver(pool)).ainvoke({"log": ["in"]}, config)
    history = [item async for item in graph_on(Saver(pool)).aget_state_history(config)]
    clock.set_off(timedelta())
    forked = await graph_on(Saver(pool)).aupdate_state(history[-1].config, {"log": ["forked"]})
    state = await graph_on(Saver(pool)).aget_state(config)
    assert state.config["configurable"]["checkpoint_id"] == forked["configurable"]["checkpoint_id"]  # pyright: ignore[reportTypedDictNotRequiredAccess]


async def test_a_checkpoint_that_would_sort_before_its_parent_is_refused(pool: Pool, thread_id: str) -> None:
    saver, thread = Saver(pool), UUID(thread_id)
    early = str(uuid6())
    parent = await put(saver, thread, log=["a"])
    found = await saver.aget_tuple(address(thread, parent))
    assert found
    with pytest.raises(Unfinished, match="sort before"):
        await saver.aput(found.config, {**found.checkpoint, "id": early}, found.metadata, {})


def test_ids_follow_what_was_read_but_no_nonsense(clock: Clock) -> None:
    clock.set_off(timedelta(days=2))
    absurd = str(uuid6())
    clock.set_off(timedelta(hours=1))
    ahead = str(uuid6())
    clock.set_off(timedelta())
    assert is_before(str(uuid6()), ahead)
    follow(ahead)
    assert is_before(ahead, str(uuid6()))
    assert is_before(str(uuid6()), str(uuid6()))
    for other in (absurd, str(uuid4()), "", "ffffffff", "ffffffff-ffff-6fff-bfff-ffffffffffff"):
        follow(other)
    assert is_before(str(uuid6()), absurd)


def test_of_two_who_follow_at_the_same_time_the_later_one_counts(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread has looked at the clock, and is overtaken by one that has read a later id."""
    ahead = list[str]()
    for hours in (1, 2):
        clock.set_off(timedelta(hours=hours))
        ahead.append(str(uuid6()))
    clock.set_off(timedelta())
    looked, go_on = threading.Event(), threading.Event()

    def look() -> UUID:
        found = uuid6()
        if threading.current_thread() is slow:
            looked.set()
            go_on.wait(60)
        return found

    monkeypatch.setattr(checkpoint_ids, "uuid6", look)
    slow, fast = (threading.Thread(target=follow, args=[read]) for read in ahead)
    slow.start()
    assert looked.wait(60)
    fast.start()
    # It may have to wait for the other; if not, it is done long before.
    fast.join(0.5)
    go_on.set()
    for thread in (slow, fast):
        thread.join(60)
    assert is_before(ahead[1], str(uuid6()))
