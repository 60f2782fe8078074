"""What a repeated step finds of the attempts before it: how far they have come, and what is left of the recursion limit."""

from dataclasses import dataclass

from durathread.db.saver import Saver
from durathread.records import Run
from durathread.steps.superstep import recursion_limit
from durathread.workflows.messages import StepInput


@dataclass(frozen=True)
class Found:
    """Where a step begins.

    `limit` says how often the graph may still look for tasks, if that is known; `source` what LangGraph has made the latest
    checkpoint of (`input`, `loop`…), None if it is not one of the run. `done` counts the supersteps that are through.
    """

    limit: int | None
    source: str | None = None
    done: int = 0


async def found_by(run: Run, given: StepInput, saver: Saver) -> Found:
    """Read what the attempts before this have left."""
    latest = await saver.aget_tuple({"configurable": {"thread_id": str(run.thread_id), "checkpoint_ns": ""}})
    if latest is None or latest.metadata.get("run_id") != str(run.run_id):
        return Found(given.limit)
    source, step = latest.metadata.get("source", ""), latest.metadata.get("step")
    if step is None or source == "input":
        return Found(given.limit, source)
    if given.step > 0:
        done = 0 if given.at is None else step - given.at
        return Found(None if given.limit is None else given.limit - done, source, done)
    first = await saver.abeginning(str(run.thread_id), str(run.run_id))
    if first is None:
        return Found(given.limit, source)
    begun, number = first
    # A superstep follows the checkpoint of an input, and writes one of its own.
    done = step - number + (begun == "loop")
    return Found(recursion_limit(run) + (1 if begun == "input" else 2) - done, source, done)
