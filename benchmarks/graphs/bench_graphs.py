"""The graphs that the benchmarks run: they cost nothing, so what is measured is the server."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.types import StreamWriter
from typing_extensions import TypedDict


class Note(TypedDict):
    """State of the graph that does nothing."""

    note: str


class Sleep(TypedDict):
    """State of the graph that sleeps."""

    seconds: float


async def noop(state: Note) -> dict[str, Any]:
    """Write nothing."""
    return {}


async def sleep(state: Sleep, writer: StreamWriter) -> dict[str, Any]:
    """Say that the node has started, then sleep."""
    writer("asleep")
    await asyncio.sleep(state["seconds"])
    return {}


async def tick(state: Sleep, writer: StreamWriter) -> dict[str, Any]:
    """Say something every fiftieth of a second, as a model does."""
    for number in range(int(state["seconds"] * 50)):
        writer(number)
        await asyncio.sleep(0.02)
    return {}


noop3 = (
    StateGraph(Note)
    .add_node("a", noop)
    .add_node("b", noop)
    .add_node("c", noop)
    .add_edge(START, "a")
    .add_edge("a", "b")
    .add_edge("b", "c")
    .add_edge("c", END)
    .compile()
)

sleeper = StateGraph(Sleep).add_node("sleep", sleep).add_edge(START, "sleep").add_edge("sleep", END).compile()

ticker = StateGraph(Sleep).add_node("tick", tick).add_edge(START, "tick").add_edge("tick", END).compile()


class Watch(TypedDict):
    """State of the graph that says when, and where, its node begins."""

    trace: str
    gate: str


async def watch(state: Watch) -> dict[str, Any]:
    """Write down the time and the process, then wait for a file."""
    line = f"{time.time()} {os.getpid()}\n"
    with Path(state["trace"]).open("a") as trace:  # noqa: ASYNC230
        trace.write(line)
    while not Path(state["gate"]).exists():  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(0.01)
    return {}


watched = StateGraph(Watch).add_node("watch", watch).add_edge(START, "watch").add_edge("watch", END).compile()
