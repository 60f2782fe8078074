"""Runs graphs step by step, as our activities do, and whole, as LangGraph does by itself."""

import contextlib
import re
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4

import orjson
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained
from langgraph.types import Command

from durathread.db.pool import Pool
from durathread.db.saver import Saver
from durathread.events.emitter import Emitter, Room, at_once
from durathread.events.protocol import Protocol
from durathread.events.transformed import Transformed
from durathread.events.transformers import Pipelines
from durathread.graphs.registry import Graph
from durathread.records import Run, RunOptions
from durathread.steps.superstep import Result, StepControl, run_config, superstep
from durathread.steps.tracing import tracing

LONG = 600
NOW = datetime.now(UTC)
IDS = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}")

Events = list[tuple[str, Any]]


@dataclass(frozen=True)
class Outcome:
    """What a run came to, without ids: those differ from run to run."""

    status: str
    error: Any
    values: Any
    next: tuple[str, ...]
    interrupts: list[Any]
    events: Events
    # How many calls it took, and the nodes that were announced for each but the first.
    calls: int
    announced: list[list[str]]
    # The nodes of each superstep.
    ran: list[str]

    def differences(self, other: "Outcome") -> dict[str, tuple[Any, Any]]:
        """Compare what stepping must not change."""
        names = ("status", "error", "values", "next", "interrupts", "events", "ran")
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


class Thread:
    """A thread on which graphs are run directly."""

    def __init__(self, pool: Pool, *, room: Room = at_once) -> None:
        self.room = room
        self.saver = Saver(pool)
        self.thread_id = uuid4()
        # Events with their ids.
        self.shown: Events = []
        # Events of the protocol.
        self.frames: list[Any] = []

    def run_of(self, **kwargs: Any) -> Run:
        """Build a run; nothing here looks at its row."""
        return Run(
            run_id=uuid4(),
            thread_id=self.thread_id,
            assistant_id=uuid4(),
            graph_id="test",
            seq=1,
            status="running",
            strategy="enqueue",
            metadata={},
            options=RunOptions.of({"stream_mode": ["values", "updates", "custom"], **kwargs}),
            error=None,
            checkpoint_id=None,
            attempt=1001,
            step=0,
            repeated=False,
            retries=0,
            opening=None,
            created_at=NOW,
            updated_at=NOW,
            started_at=NOW,
            ended_at=None,
        )

    async def stepped(self, graph: Graph, given: Any, *, watched: bool = False, **kwargs: Any) -> Outcome:
        """Run a graph one superstep a call; `watched` by the protocol too."""
        return await self._run(graph, given, whole=False, watched=watched, kwargs=kwargs)

    async def shared(
        self, graph: Graph, given: Any, *, watched: bool = False, every: int = 1, **kwargs: Any
    ) -> Outcome:
        """Run a graph with calls of which each but `every` so many goes on to further supersteps."""
        return await self._run(graph, given, whole=False, watched=watched, shares=every, kwargs=kwargs)

    async def from_input(self, graph: Graph, given: Any, **kwargs: Any) -> Outcome:
        """Go on after an attempt of which only the checkpoint of the input is left."""
        config = {**run_config(self.run_of(**kwargs), begun=False), "recursion_limit": 25}
        stored = graph.copy({"checkpointer": self.saver})
        with contextlib.suppress(GraphDrained):
            await stored.ainvoke(given, cast(RunnableConfig, config), durability="sync", control=StepControl(0))
        return await self._run(graph, None, whole=False, at_input=True, kwargs=kwargs)

    async def whole(self, graph: Graph, given: Any, **kwargs: Any) -> Outcome:
        """Run a graph in one call."""
        return await self._run(graph, given, whole=True, kwargs=kwargs)

    async def _run(
        self,
        graph: Graph,
        given: Any,
        *,
        whole: bool,
        watched: bool = False,
        at_input: bool = False,
        shares: int = 0,
        kwargs: dict[str, Any],
    ) -> Outcome:
        graph = graph.copy({"checkpointer": self.saver})
        run = self.run_of(**kwargs)
        events: Events = []
        announced: list[list[str]] = []
        ran: list[str] = []
        result = Result("continue")
        pipelines = Pipelines()

        def emit(name: str, data: bytes) -> None:
            events.append((IDS.sub("id", name), orjson.loads(IDS.sub("id", data.decode()))))
            self.shown.append((name, orjson.loads(data)))

        for call in range(100):
            emitter = Emitter(
                emit,
                modes=run.options.stream_mode,
                subgraphs=bool(kwargs.get("subgraphs")),
                resumed=call > 0,
                room=self.room,
                protocol=Protocol(
                    replace(run, attempt=call),
                    lambda frames: self.frames.extend(orjson.loads(frame.data) for frame in frames),
                    wanted=True,
                    resumed=call > 0,
                )
                if watched
                else None,
            )
            opening = None if call else given
            config = run_config(run, begun=call > 0)
            async with (
                tracing(graph, run, config, begins=call == 0, given=opening) as trace,
                pipelines.open(graph, run, call) as pipeline,
            ):
                result = await superstep(
                    graph,
                    run,
                    given=opening,
                    config=config,
                    limit=result.limit,
                    whole=whole,
                    emitter=emitter,
                    trace=trace,
                    at_input=at_input and call == 0,
                    transformed=Transformed(pipeline, emitter.calls),
                    until=time.monotonic() + LONG if shares and (call + 1) % shares == 0 else 0,
                )
            ran += [each.nodes for each in emitter.progress.ran()]
            if result.status != "continue":
                break
            announced.append(result.nodes)
        state = await graph.aget_state({"configurable": {"thread_id": str(self.thread_id)}})
        return Outcome(
            result.status,
            result.error,
            state.values,
            tuple(sorted(state.next)),
            [interrupt.value for interrupt in state.interrupts],
            events,
            len(announced) + 1,
            announced,
            ran,
        )


async def both(pool: Pool, graph: Graph, *inputs: Any, **kwargs: Any) -> Outcome:
    """Run inputs one after the other on a thread step by step, and on others whole or in few calls; all must come to the same.

    Returns the last outcome of the thread that was stepped.
    """
    stepped, whole, shared, mixed = (Thread(pool) for _ in range(4))
    found: Outcome | None = None
    for given in inputs:
        found, expected = await stepped.stepped(graph, given, **kwargs), await whole.whole(graph, given, **kwargs)
        assert not (different := found.differences(expected)), different
        assert expected.calls == 1
        at_once = await shared.shared(graph, given, **kwargs)
        assert not (different := at_once.differences(expected)), different
        assert at_once.calls == 1
        some = await mixed.shared(graph, given, every=2, **kwargs)
        assert not (different := some.differences(expected)), different
        assert some.calls == min(found.calls, 2)
    assert found is not None
    return found


def resume(answer: Any) -> Command[Any]:
    """Answer an interrupt."""
    return Command(resume=answer)
