"""The trace of a run: one span, whatever number of calls of LangGraph, of processes and of attempts it takes.

Each call of LangGraph would report a root of its own, all but the last as failed. So the handlers are given to LangGraph as
inheritable only: they hear of all that happens within, and hear of the root from here.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Generator, Sequence
from datetime import UTC
from typing import Any, cast

import structlog
from langchain_core.callbacks import AsyncCallbackManager, AsyncCallbackManagerForChainRun, BaseCallbackHandler
from langchain_core.runnables import RunnableConfig
from langchain_core.tracers.base import BaseTracer
from langchain_core.tracers.langchain import LangChainTracer, wait_for_all_tracers
from langsmith import RunTree
from temporalio import activity

from durathread.encode import Encoded
from durathread.graphs.registry import Graph
from durathread.records import JsonObject, Run
from durathread.steps.attempt import why_cancelled

log = structlog.get_logger()


@contextlib.asynccontextmanager
async def tracing(
    graph: Graph, run: Run, config: RunnableConfig, *, begins: bool, given: Any
) -> AsyncGenerator["Trace"]:
    """Open the span of a run for one step of it.

    Args:
        graph: may bring handlers of its own.
        run: as claimed.
        config: that the graph is run with.
        begins: whether this is the first step.
        given: what the graph gets.
    """
    trace = Trace(graph, run, config)
    with trace.open():
        if begins:
            await trace.begin(given, again=run.repeated)
        try:
            yield trace
        except asyncio.CancelledError as error:
            # A step that is handed back, or has lost its run, says nothing: others go on.
            if activity.in_activity() and activity.is_cancelled() and why_cancelled() == "cancelled":
                await trace.fail(error)
            raise


class Deaf(LangChainTracer):
    """Keeps LangChain from adding a tracer of its own, which it does where it finds none."""

    @property
    def ignore_chain(self) -> bool:
        """Hear nothing."""
        return True


class Trace:
    """The span of a run, as one step of it sees it."""

    def __init__(self, graph: Graph, run: Run, config: RunnableConfig) -> None:
        """Find who listens: handlers that the graph brings, and those that the environment asks for."""
        own = graph.config or {}
        self._manager = AsyncCallbackManager.configure(
            inheritable_callbacks=own.get("callbacks"),
            inheritable_tags=config.get("tags"),
            inheritable_metadata={**config.get("metadata", {}), "ls_integration": "langgraph"},
        )
        # The graph as it is run: its own handlers hear of the root from here.
        self.graph = graph.copy({"config": {**own, "callbacks": None}}) if own.get("callbacks") else graph
        self._run = run
        self._name = config.get("run_name") or graph.get_name()
        handlers = self._manager.handlers
        self._langsmith = [each for each in handlers if isinstance(each, LangChainTracer)]
        self._others = [each for each in handlers if not isinstance(each, LangChainTracer)]
        self._trees: list[RunTree] = []

    def within(self, config: RunnableConfig, *, heard_by: Sequence[BaseCallbackHandler]) -> RunnableConfig:
        """Return a config with which all that LangGraph reports ends up within the span, and is heard by these too."""
        manager = self._manager
        told = AsyncCallbackManager(
            handlers=[Deaf(client=tracer.client) for tracer in self._langsmith[:1]],
            inheritable_handlers=[*heard_by, *manager.inheritable_handlers],
            tags=manager.tags.copy(),
            inheritable_tags=manager.inheritable_tags.copy(),
            metadata=manager.metadata.copy(),
            inheritable_metadata=manager.inheritable_metadata.copy(),
        )
        return {**config, "callbacks": told}

    @contextlib.contextmanager
    def open(self) -> Generator[None]:
        """Let what is reported from within find its parent, which another process may have begun."""
        self._trees = [self._tree(tracer) for tracer in self._langsmith]
        for tracer, tree in zip(self._langsmith, self._trees, strict=True):
            _know(tracer, tree)
        for tracer in self._others:
            if isinstance(tracer, BaseTracer) and str(self._run.run_id) not in tracer.run_map:
                _know(tracer, self._tree(None))
        try:
            yield
        finally:
            for tracer in self._langsmith:
                tracer.run_map.pop(str(self._run.run_id), None)
                tracer.order_map.pop(self._run.run_id, None)

    async def begin(self, given: Any, *, again: bool) -> None:
        """Report that the run begins; `again` if an attempt before this may have done so.

        LangSmith takes a span that it has for the same, so it is told again: what a process that was killed has not sent yet is
        lost with it.
        """
        inputs = given if isinstance(given, dict) else {"input": given}
        for tree in self._trees:
            tree.inputs = cast(JsonObject, inputs)
            _send(tree.post)
        if again:
            return
        told = AsyncCallbackManager(
            handlers=list(self._others), tags=self._manager.tags, metadata=self._manager.metadata
        )
        for tracer in self._others:
            if isinstance(tracer, BaseTracer):
                tracer.run_map.pop(str(self._run.run_id), None)
        await told.on_chain_start(cast(Any, None), given, name=self._name, run_id=self._run.run_id)

    async def end(self, state: Encoded | None) -> None:
        """Report that the run has come to its end."""
        if not self._trees and not self._others:
            return
        outputs = state.decoded() if state else None
        for tree in self._trees:
            tree.end(outputs=outputs if isinstance(outputs, dict) else {"output": outputs})
            _send(tree.patch)
        await self._root().on_chain_end(outputs)

    async def fail(self, error: BaseException) -> None:
        """Report that the run has failed, or was cancelled."""
        for tree in self._trees:
            tree.end(error=repr(error))
            _send(tree.patch)
        await self._root().on_chain_error(error)

    def _root(self) -> AsyncCallbackManagerForChainRun:
        return AsyncCallbackManagerForChainRun(
            run_id=self._run.run_id,
            handlers=list(self._others),
            inheritable_handlers=list(self._others),
            tags=self._manager.tags,
            metadata=self._manager.metadata,
        )

    def _tree(self, tracer: LangChainTracer | None) -> RunTree:
        """Build the span as every process builds it: LangSmith orders by when it began."""
        began = self._run.started_at or self._run.created_at
        asked: JsonObject = self._run.options.langsmith_tracer or {}
        project = asked.get("project_name") or (tracer and tracer.project_name)
        return RunTree(
            id=self._run.run_id,
            name=self._name,
            run_type="chain",
            start_time=began.astimezone(UTC),
            extra={"metadata": {**((tracer and tracer.tracing_metadata) or {}), **self._manager.metadata}},
            tags=sorted({*self._manager.tags, *(tracer.tags if tracer else ())}),
            ls_client=tracer and tracer.client,
            **({"project_name": project} if project else {}),
            **({"reference_example_id": asked["example_id"]} if asked.get("example_id") else {}),
        )


def flush(patience: float) -> None:
    """Let LangSmith's clients send what they have gathered, but not for longer than so many seconds."""
    sending = threading.Thread(target=wait_for_all_tracers, daemon=True)
    sending.start()
    sending.join(patience)


def _know(tracer: BaseTracer, tree: RunTree) -> None:
    """Make a tracer know a span that it has not begun. It looks for parents in these."""
    tracer.run_map[str(tree.id)] = tree
    tracer.order_map[tree.id] = (tree.trace_id, tree.dotted_order)


def _send(send: Any) -> None:
    try:
        send()
    except Exception as error:  # noqa: BLE001, what traces a run must not end it
        log.warning("A trace could not be sent", error=repr(error))
