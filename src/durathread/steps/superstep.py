"""One superstep of a graph, from the latest checkpoint to the next, and those after it that are short. Runs on the graphs' loop."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import structlog
from langchain_core.runnables import RunnableConfig
from langgraph.constants import START
from langgraph.errors import (
    ErrorCode,
    GraphDrained,
    GraphRecursionError,
    UnknownInterruptError,
    create_error_message,
)
from langgraph.runtime import RunControl
from langgraph.types import Command, StateSnapshot

from durathread.db.saver import Saver
from durathread.encode import Encoded, dumps, jsonable
from durathread.errors import Fenced, Unavailable, Unfinished
from durathread.events.emitter import Emitter
from durathread.events.message_ids import MessageIds
from durathread.events.transformed import Transformed
from durathread.graphs.config_keys import CHECKPOINT_ADDRESS, DEFAULT_RECURSION_LIMIT
from durathread.graphs.contexts import context_of
from durathread.graphs.failures import describe
from durathread.graphs.gone_nodes import Continued, GoneNode
from durathread.graphs.read_state import is_at_breakpoint, standing, standing_at
from durathread.graphs.registry import Graph
from durathread.records import JsonObject, Run, ThreadStatus
from durathread.steps.tracing import Trace
from durathread.streams.frames import Frame
from durathread.workflows.messages import Ran

log = structlog.get_logger()

# Private to LangGraph, which has no other way to ask that a resume which answers nobody be refused. It is a promise between
# LangGraph and servers: RemoteGraph reads the same key.
STRICT_RESUME = "__pregel_strict_resume"


class StepControl(RunControl):
    """Asks LangGraph to stop after a superstep, or after a few that are short.

    LangGraph looks at `drain_requested` once before each superstep, of the root graph and of every subgraph. The root
    looks first, and in the task that iterates its stream; subgraphs run in tasks or threads of their own.
    """

    __slots__ = ("_least", "_most", "_root", "_until", "passed")

    def __init__(self, supersteps: int, *, most: int | None = None, until: float = 0) -> None:
        """Let that many supersteps through, and others up to a time (`time.monotonic`), at `most` so many in all."""
        super().__init__()
        self._root: asyncio.Task[Any] | None = None
        self._least = supersteps
        self._most = most
        self._until = until
        self.passed = 0
        """How many were let through."""

    @property
    def drain_requested(self) -> bool:
        """Whether enough has been done."""
        try:
            task = asyncio.current_task()
        except RuntimeError:
            return False
        if self._root is None:
            self._root = task
        if task is None or task is not self._root:
            return False
        if self.passed >= self._least and (self.passed == self._most or time.monotonic() >= self._until):
            return True
        self.passed += 1
        return False

    @property
    def shares(self) -> bool:
        """Whether there may be more supersteps than must be."""
        return self._until > 0

    @property
    def drain_reason(self) -> str | None:
        """Why the graph stops."""
        return "superstep"


@dataclass(frozen=True)
class Position:
    """Where a run stands after a superstep. `values` are None if the thread has no checkpoint; `interrupts` if it was not read."""

    resting: ThreadStatus
    state: Encoded | None
    interrupts: JsonObject | None
    checkpoint_id: str | None

    @property
    def values(self) -> Any:
        """The state, as JSON says it."""
        return self.state.decoded() if self.state else None


@dataclass(frozen=True)
class Result:
    """What a superstep came to: `continue`, or the final status of the run; `refused` is an error that wrote nothing."""

    status: Literal["continue", "success", "error", "refused"]
    nodes: list[str] = field(default_factory=list[str])
    limit: int | None = None
    position: Position | None = None
    error: JsonObject | None = None
    raised: BaseException | None = None
    # To be shown once the row of the run says the same.
    frames: Sequence[Frame] = ()
    # What the graph counts beside its checkpoints.
    counts: JsonObject = field(default_factory=JsonObject)
    # LangGraph's number of the checkpoint that was reached.
    at: int | None = None
    ran: list[Ran] = field(default_factory=list[Ran])


async def superstep(
    graph: Graph,
    run: Run,
    *,
    given: Any,
    config: RunnableConfig,
    limit: int | None,
    whole: bool,
    emitter: Emitter,
    trace: Trace,
    transformed: Transformed,
    at_input: bool = False,
    again: bool = False,
    until: float = 0,
    done: int = 0,
) -> Result:
    """Run a graph for one superstep, or to its end if `whole`.

    LangGraph is asked to store each checkpoint before it goes on to another superstep, so a crash never takes back a superstep
    that is through, and a run that has ended meanwhile begins none.

    Args:
        graph: with the run's checkpointer in it.
        run: the run, as claimed.
        given: what the graph gets: an input, a command, or None to go on.
        config: what the graph finds as its config, but for the recursion limit.
        limit: how often the graph may still look for tasks; None in the first step, where the recursion limit says it.
        whole: whether to run all supersteps.
        emitter: takes what happens.
        trace: is told how the run has ended.
        transformed: says what is to be seen of what happens.
        at_input: whether the graph goes on from the checkpoint of an input that no superstep has taken yet.
        again: whether the step is repeated because it was unfinished before; then it fails the run instead.
        until: when the graph begins no other superstep any more, in the time of `time.monotonic`.
        done: how many supersteps an attempt before this one has completed.

    Raises:
        Unfinished: what LangGraph says and what is stored do not agree. The step is to be repeated.
    """
    own = recursion_limit(run)
    if own < 1:
        return await _failed(graph, run, ValueError("recursion_limit must be at least 1"), emitter, trace, transformed)
    applies_input = given is not None and not isinstance(given, Command)
    # LangGraph counts from where each call begins, and lets a call that resumes look twice more.
    begins = applies_input or at_input
    looks = limit if limit is not None else own + (1 if begins else 2)
    if looks < 1:
        return await _failed(graph, run, _too_many(own), emitter, trace, transformed)
    allowed = own if limit is None else max(looks - 2, 1)
    ids = MessageIds(graph)
    config = trace.within({**config, "recursion_limit": max(allowed, 1)}, heard_by=[ids, emitter.calls])
    # An input first goes through a superstep of LangGraph's own, which runs no node of the user's.
    supersteps = 2 if begins and START in graph.nodes else 1
    control = None if whole else StepControl(supersteps, most=looks, until=until)

    async def unended(error: Unfinished) -> Result:
        if not again:
            raise error
        log.error(
            "A run does not come to its end", reason=str(error), run_id=str(run.run_id), thread_id=str(run.thread_id)
        )
        return await _failed(graph, run, error, emitter, trace, transformed)

    async def advance() -> None:
        if _goes_on(given):
            _saver(graph).examine(Continued(graph, run.graph_id).examine)
        async with (
            aclosing(_chunks(trace.graph, run, given, config, control, emitter, ids, transformed)) as yielded,
            aclosing(ids.settled(yielded)) as chunks,
        ):
            async for namespace, mode, data in chunks:
                emitter.note(namespace, mode, data)
                repeats = emitter.repeats(namespace, mode, data)
                for shown in await transformed.through((namespace, mode, data), repeats=repeats):
                    emitter.chunk(*shown)
                await emitter.room()
                if unfinished := emitter.progress.unfinished:
                    _saver(graph).doubt(unfinished)
        await _verify(graph, run, emitter)

    try:
        # LangGraph takes a call that goes on for one that has passed the breakpoint that it begins at.
        if not (done and await is_at_breakpoint(graph, run)):
            await advance()
        for shown in await transformed.end():
            emitter.chunk(*shown)
    except GraphDrained:
        if unfinished := emitter.progress.unfinished:
            return await unended(unfinished)
        left = looks - (control.passed if control else 0)
        if left > 0:
            for shown in await transformed.pause():
                emitter.chunk(*shown)
            emitter.pause()
            nodes = list(emitter.checkpoint["next"]) if emitter.checkpoint else []
            return Result("continue", nodes=nodes, limit=left, at=emitter.progress.at)
        return await _failed(graph, run, _too_many(own), emitter, trace, transformed)
    except asyncio.CancelledError:
        if _saver(graph).sealed:
            raise
        # Not by the server: code of another run, on the same event loop.
        return await unended(Unfinished("The step was cancelled from within."))
    except (Fenced, Unavailable):
        raise
    except Unfinished as error:
        return await unended(error)
    except GeneratorExit:
        raise
    except BaseException as error:  # noqa: BLE001, whatever users' code raises ends their run, and nothing else
        _saver(graph).examine(None)
        if isinstance(error, GoneNode) and limit is None:
            return await _refused(error, emitter, trace, transformed)
        if isinstance(error, UnknownInterruptError) and isinstance(given, Command):
            return await _refused(error, emitter, trace, transformed)
        if isinstance(error, GraphRecursionError) and limit is not None and control and control.passed >= looks:
            # LangGraph names what was left of the limit.
            error = _too_many(own)
        return await _failed(graph, run, error, emitter, trace, transformed)
    position = await locate(graph, str(run.thread_id), emitter.checkpoint)
    if control and control.passed >= looks and position.resting == "idle":
        return await _failed(graph, run, _too_many(own), emitter, trace, transformed)
    emitter.interrupts([item for items in (position.interrupts or {}).values() for item in items])
    await trace.end(position.state)
    return Result("success", position=position)


def run_config(run: Run, *, begun: bool) -> RunnableConfig:
    """Build what the config of a run's graph has of its run; `begun` says whether it goes on from a checkpoint of its own."""
    asked: JsonObject = run.options.config
    configurable = dict(asked.get("configurable") or {})
    if begun:
        configurable = {key: value for key, value in configurable.items() if key not in CHECKPOINT_ADDRESS}
    ids = {
        "run_id": str(run.run_id),
        "thread_id": str(run.thread_id),
        "graph_id": run.graph_id,
        "assistant_id": str(run.assistant_id),
    }
    metadata = {**run.metadata, "run_attempt": run.retries + 1, **ids}
    rest = {key: value for key, value in asked.items() if key not in ("configurable", "metadata", "recursion_limit")}
    config = {
        **rest,
        "run_id": run.run_id,
        "configurable": {**configurable, **ids, **({STRICT_RESUME: True} if run.options.strict_resume else {})},
        "metadata": metadata,
        "recursion_limit": recursion_limit(run),
    }
    return cast(RunnableConfig, config)


async def locate(
    graph: Graph,
    thread_id: str,
    checkpoint: dict[str, Any] | None = None,
    *,
    checkpoint_id: str | None = None,
) -> Position:
    """Read where a thread stands; or stood when the checkpoint that is named was its latest.

    A checkpoint that LangGraph has just described, with nothing next, needs no reading.
    """
    if checkpoint is not None and not checkpoint["next"]:
        found = checkpoint["config"]["configurable"].get("checkpoint_id")
        return Position("idle", Encoded(dumps(checkpoint["values"])), {}, found)
    config: RunnableConfig = {"configurable": {"thread_id": thread_id}}
    state = await (standing_at(graph, config, checkpoint_id) if checkpoint_id else standing(graph, config))
    return position_of(state)


def position_of(state: StateSnapshot) -> Position:
    """Say of a state what a thread shows of it."""
    found = state.config.get("configurable", {}).get("checkpoint_id")
    if found is None:
        return Position("idle", None, {}, None)
    resting: ThreadStatus = "interrupted" if state.next else "idle"
    return Position(resting, Encoded(dumps(state.values)), pending_interrupts(state), found)


def pending_interrupts(state: StateSnapshot) -> JsonObject:
    """List the interrupts that wait for an answer, by task."""
    found: JsonObject = {}
    for task in state.tasks:
        if task.interrupts:
            found[task.id] = [interrupt_json(interrupt) for interrupt in task.interrupts]
    return found


def interrupt_json(interrupt: Any) -> JsonObject:
    """Show an interrupt as threads and states do: without a response schema that is not there."""
    shown = {"id": interrupt.id, "value": jsonable(interrupt.value)}
    if interrupt.response_schema is not None:
        shown["response_schema"] = jsonable(interrupt.response_schema)
    return shown


async def _chunks(
    graph: Graph,
    run: Run,
    given: Any,
    config: RunnableConfig,
    control: StepControl | None,
    emitter: Emitter,
    ids: MessageIds,
    transformed: Transformed,
) -> AsyncGenerator[tuple[tuple[str, ...], str, Any]]:
    asked = run.options
    options: dict[str, Any] = {
        "context": context_of(graph.context_schema, asked.context),
        "stream_mode": sorted({*emitter.langgraph_modes, *(transformed.modes if emitter.wanted else ())}),
        "interrupt_before": asked.interrupt_before or None,
        "interrupt_after": asked.interrupt_after or None,
        # A superstep that follows another in the same call begins once that one's checkpoint is stored.
        "durability": "sync" if control and control.shares else asked.durability,
        "subgraphs": emitter.subgraphs,
        "control": control,
    }
    if "events" not in asked.stream_mode:
        async for chunk in graph.astream(given, config, **options):
            yield _split(chunk, subgraphs=options["subgraphs"])
        return
    root = str(run.run_id)
    async for event in graph.astream_events(given, config, version="v2", **options):
        if event["event"] != "on_chain_stream" or event["run_id"] != root:
            if (shown := await transformed.event(ids.named(cast(dict[str, Any], event)))) is not None:
                emitter.raw_event(shown)
            await emitter.room()
            continue
        namespace, mode, data = _split(cast(Any, event["data"]).get("chunk"), subgraphs=options["subgraphs"])
        if (seen := await transformed.raw(mode, data)) is not None:
            emitter.raw_chunk(cast(dict[str, Any], event), namespace, mode, *seen)
        yield namespace, mode, data


def _split(chunk: Any, *, subgraphs: bool) -> tuple[tuple[str, ...], str, Any]:
    if subgraphs:
        namespace, mode, data = chunk
        return tuple(namespace), mode, data
    mode, data = chunk
    return (), mode, data


def recursion_limit(run: Run) -> int:
    asked = run.options.config.get("recursion_limit")
    return asked if isinstance(asked, int) else DEFAULT_RECURSION_LIMIT


def _too_many(limit: int) -> GraphRecursionError:
    message = (
        f"Recursion limit of {limit} reached without hitting a stop condition. You can increase the limit by setting the "
        "`recursion_limit` config key."
    )
    return GraphRecursionError(create_error_message(message=message, error_code=ErrorCode.GRAPH_RECURSION_LIMIT))


async def _verify(graph: Graph, run: Run, emitter: Emitter) -> None:
    """Make sure that a graph that says it is through is, and that its thread stands where it says.

    Raises:
        Unfinished: it is not.
    """
    if unfinished := emitter.progress.unfinished:
        raise unfinished
    described = emitter.checkpoint
    if described is None or described["next"]:
        return
    said = described["config"]["configurable"].get("checkpoint_id")
    stored = await _saver(graph).alatest(str(run.thread_id))
    if said != stored:
        raise Unfinished(f"LangGraph has ended the run at checkpoint {said}, but the thread stands at {stored}.")


def _saver(graph: Graph) -> Saver:
    return cast(Saver, graph.checkpointer)


def _goes_on(given: Any) -> bool:
    """Whether a graph goes on with what its thread waits for: not with a new input, nor elsewhere."""
    return given is None or (isinstance(given, Command) and not given.goto)


async def _refused(error: Exception, emitter: Emitter, trace: Trace, transformed: Transformed) -> Result:
    described = describe(error)
    await transformed.fail(error)
    emitter.error(described)
    await trace.fail(error)
    return Result("refused", error=described, raised=error)


def unopened(error: Exception, emitter: Emitter) -> Result:
    """End a run whose graph is gone, or could not be built."""
    described = describe(error)
    emitter.error(described)
    return Result("error", error=described, raised=error)


async def _failed(
    graph: Graph, run: Run, error: BaseException, emitter: Emitter, trace: Trace, transformed: Transformed
) -> Result:
    described = describe(error)
    await transformed.fail(error)
    position = await locate(graph, str(run.thread_id))
    emitter.error(described)
    await trace.fail(error)
    nodes = list(emitter.checkpoint["next"]) if emitter.checkpoint else []
    return Result("error", nodes=nodes, position=position, error=described, raised=error)
