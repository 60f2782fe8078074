"""a → b → c, each of which appends its name to `log`, and does what the input asks of it."""

import asyncio
import contextlib
import ctypes
import operator
import os
import signal
import time
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph

PR_SET_PTRACER = 0x59616D61
PR_SET_PTRACER_ANY = ctypes.c_ulong(-1)


class State(TypedDict, total=False):
    """`do` says, by node, what it does before it appends: see `act`."""

    log: Annotated[list[str], operator.add]
    do: dict[str, dict[str, Any]]


async def there(path: str) -> None:
    """Wait until a file exists."""
    while not Path(path).exists():  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(0.01)


async def act(what: dict[str, Any], run_id: str) -> None:
    """Carry out an instruction.

    `trace`: append a line to a file. `sleep`: that many seconds, cancellable. `until`: wait until a file exists.
    `block_until`, `stubborn_until`, `finally_until`: block the event loop's thread, swallow cancellation, clean up until a
    file exists. `large`: leave a text of so many characters as well. `hold_gil`: let no other thread of the process run for that many seconds. `ended`: create a file at the very
    end. `traceable`: let any process debug this one, wherever only parents may. `kill`: kill the worker's process. `fail`: raise a ValueError with this text.
    """
    if what.get("traceable"):
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0)
    if path := what.get("trace"):
        with Path(path).open("a") as trace:  # noqa: ASYNC230
            trace.write(f"{run_id} {os.getpid()}\n")
    if path := what.get("block_until"):
        while not Path(path).exists():  # noqa: ASYNC240
            time.sleep(0.01)  # noqa: ASYNC251
    if path := what.get("stubborn_until"):
        while not Path(path).exists():  # noqa: ASYNC240
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
    if seconds := what.get("hold_gil"):
        ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))
    try:
        if path := what.get("until"):
            await there(path)
        if seconds := what.get("sleep"):
            await asyncio.sleep(seconds)
    finally:
        if path := what.get("finally_until"):
            await there(path)
    if what.get("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if text := what.get("fail"):
        raise ValueError(text)


def node(name: str) -> Any:
    """Build a node."""

    async def run(state: State, config: RunnableConfig) -> dict[str, list[str]]:
        what = (state.get("do") or {}).get(name, {})
        try:
            await act(what, config.get("configurable", {})["run_id"])
        finally:
            if path := what.get("ended"):
                Path(path).touch()  # noqa: ASYNC240
        return {"log": [name, "x" * what["large"]] if "large" in what else [name]}

    return run


builder = StateGraph(State)
names = ["a", "b", "c"]
for name in names:
    builder.add_node(name, node(name))
for source, target in zip([START, *names], [*names, END], strict=True):
    builder.add_edge(source, target)
graph = builder.compile()

# The same, in five steps.
long_builder = StateGraph(State)
steps = ["s1", "s2", "s3", "s4", "s5"]
for name in steps:
    long_builder.add_node(name, node(name))
for source, target in zip([START, *steps], [*steps, END], strict=True):
    long_builder.add_edge(source, target)
five = long_builder.compile()

# fast and slow at once, then done.
parallel_builder = StateGraph(State)
for name in ["fast", "slow", "done"]:
    parallel_builder.add_node(name, node(name))
parallel_builder.add_edge(START, "fast")
parallel_builder.add_edge(START, "slow")
parallel_builder.add_edge(["fast", "slow"], "done")
parallel_builder.add_edge("done", END)
parallel = parallel_builder.compile()
