"""The stream transformers of a graph, run as LangGraph runs them in its own `astream_events(version="v3")`.

LangGraph has them work on events of that call only, and has no public way to run them on what `astream` yields, of which a
run needs more. So this module uses its `StreamMux`, and nothing else does.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import UUID

from langgraph.stream import ProtocolEvent, StreamTransformer, SubgraphTransformer
from langgraph.stream._mux import StreamMux

from durathread.graphs.registry import Graph
from durathread.records import JsonObject, Run

Factory = Callable[[tuple[str, ...]], StreamTransformer]

# Whose own transformers only build what in-process readers hold in their hands.
OWN = ("langgraph", "langchain")
CUSTOM = "custom:"
# What other runs left behind when they went on elsewhere is forgotten then.
KEPT = 1000


class Pipeline:
    """The transformers of one run, for as long as its steps stay in this process."""

    def __init__(self, factories: Sequence[Factory]) -> None:
        """Build the transformers."""
        self._factories = factories
        self._aside: Pipeline | None = None
        self._mux = StreamMux(factories=[SubgraphTransformer, *factories], is_async=True)
        self._log: Any = self._mux._events  # pyright: ignore[reportPrivateUsage]
        # A log keeps what happens from its first reader on.
        self._reader = aiter(self._log)
        self.ended = False
        self.values: Any = None
        """The newest state of the root graph, as the transformers have left it."""

    @property
    def modes(self) -> set[str]:
        """What the transformers want to see."""
        transformers = self._mux._transformers  # pyright: ignore[reportPrivateUsage]
        return {mode for transformer in transformers for mode in transformer.required_stream_modes}

    @property
    def aside(self) -> "Pipeline":
        """Transformers of the same kind, for what these must not count."""
        if self._aside is None:
            self._aside = Pipeline(self._factories)
        return self._aside

    async def push(
        self, method: str, namespace: Sequence[str], data: Any, *, interrupts: tuple[Any, ...] = ()
    ) -> tuple[ProtocolEvent | None, list[tuple[str, Any]]]:
        """Pass an event through.

        Returns: the event as it is now, or None if a transformer has taken it out; and what was pushed to named channels.
        """
        params: Any = {"namespace": list(namespace), "timestamp": int(time.time() * 1000), "data": data}
        if method == "values":
            params["interrupts"] = interrupts
        event: ProtocolEvent = {"type": "event", "method": method, "params": params}
        await self._mux.apush(event)
        logged = self._drain()
        return next((each for each in logged if each is event), None), _pushed(logged, but=event)

    async def settle(self) -> list[tuple[str, Any]]:
        """Wait for what the transformers do beside the stream: the next step may be another process's."""
        while pending := self._mux._collect_scheduled_tasks():  # pyright: ignore[reportPrivateUsage]
            for outcome in await asyncio.gather(*pending, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome
        await self._settle_aside()
        return _pushed(self._drain())

    async def end(self) -> list[tuple[str, Any]]:
        """Tell the transformers that the run has come to its end."""
        await self._settle_aside()
        await self._mux.aclose()
        self.ended = True
        return _pushed(self._drain())

    async def fail(self, error: BaseException) -> None:
        """Tell the transformers that the run has failed."""
        if not self.ended:
            self.ended = True
            await self._settle_aside(cancelled=True)
            await self._mux.afail(error)

    async def _settle_aside(self, *, cancelled: bool = False) -> None:
        """Wait for what those aside do. Nothing comes of it, nor of its errors: they have no end of their own."""
        while self._aside and (pending := self._aside._mux._collect_scheduled_tasks()):  # pyright: ignore[reportPrivateUsage]
            for task in pending if cancelled else ():
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            self._aside._drain()

    def _drain(self) -> list[ProtocolEvent]:
        logged = [event for _, event in self._log._items]
        self._log._items.clear()
        return logged


class Pipelines:
    """The pipelines of runs whose next step is to come."""

    def __init__(self) -> None:
        """Begin with none."""
        self._kept: OrderedDict[UUID, tuple[int, Pipeline]] = OrderedDict()

    @asynccontextmanager
    async def open(self, graph: Graph, run: Run, step: int) -> AsyncGenerator[Pipeline | None]:
        """Open the pipeline of a run for one step of it; None if its graph has no transformers."""
        pipeline = self._take(graph, run, step)
        try:
            yield pipeline
        except BaseException as error:
            if pipeline is not None:
                await pipeline.fail(error)
            raise
        if pipeline is not None and not pipeline.ended:
            self._keep(run, step + 1, pipeline)

    def _take(self, graph: Graph, run: Run, step: int) -> Pipeline | None:
        """Return what the step before this has left here, or begin anew."""
        kept = self._kept.pop(run.run_id, None)
        if kept is not None and kept[0] == step and not run.repeated:
            return kept[1]
        factories = cast(Sequence[Factory], graph.stream_transformers)
        return Pipeline(factories) if any(not _is_own(factory) for factory in factories) else None

    def _keep(self, run: Run, step: int, pipeline: Pipeline) -> None:
        """Leave a pipeline to the step of that number."""
        self._kept[run.run_id] = step, pipeline
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)


def _is_own(factory: Any) -> bool:
    return bool(getattr(factory, "_native", False)) and factory.__module__.partition(".")[0] in OWN


def _pushed(logged: Iterable[ProtocolEvent], *, but: ProtocolEvent | None = None) -> list[tuple[str, Any]]:
    return [
        (event["method"].removeprefix(CUSTOM), cast(JsonObject, event["params"])["data"])
        for event in logged
        if event is not but
    ]
