"""The activity that makes a step of a run: a superstep, and those after it that are short."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import structlog
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from redis.exceptions import RedisError
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError

from durathread import encryption
from durathread.activities.close_streams import close_before
from durathread.activities.deliver import Deliveries
from durathread.activities.execution import Execution, Stopped
from durathread.activities.positions import position_at
from durathread.activities.resources import Resources
from durathread.companion.wire import WORKER_DIED
from durathread.db import runs, threads
from durathread.db.pool import TROUBLES, connection, is_clash, is_outage, transaction
from durathread.db.saver import Saver
from durathread.encode import dumps
from durathread.errors import Error, Fenced, Unavailable, Unfinished
from durathread.events.emitter import Emitter
from durathread.events.outlet import Outlet
from durathread.events.protocol import Protocol, forks
from durathread.events.transformed import Transformed
from durathread.events.transformers import Pipelines
from durathread.graphs.failures import MASK, describe, glimpse, node_of, report
from durathread.graphs.loops import Raised, Work
from durathread.graphs.registry import Graph
from durathread.graphs.untracked import Untracked, carries, carrying
from durathread.inprocess.calls import working
from durathread.records import JsonObject, Run, RunStatus, call_of, token_of
from durathread.steps.attempt import why_cancelled
from durathread.steps.conversations import Text
from durathread.steps.first_input import baseline, given_by, relayed, remaining
from durathread.steps.repair import is_asked, repair
from durathread.steps.repetition import Found, found_by
from durathread.steps.superstep import Position, Result, run_config, superstep, unopened
from durathread.steps.tracing import tracing
from durathread.streams.frames import Frame, Named, ending, frames_subject, requested, running, speaks_protocol
from durathread.streams.open_items import unfinished
from durathread.streams.partial_texts import partial_texts
from durathread.streams.thread_markers import begun_mark, conclude
from durathread.workflows.messages import FAILED, HANDED_BACK, STEP, UNAVAILABLE, UNENDED, StepInput, StepOutcome

log = structlog.get_logger()

TOO_OFTEN = "A step of this run took its worker down too often."
DESCRIBE_TIMEOUT = timedelta(seconds=2)
SUPERSEDED = StepOutcome("superseded")
# How long a repair waits for Valkey, in seconds.
HEARING = 10.0
# How often a step that takes long makes sure that its run is still its own, in seconds. It decides only when nobody has told
# it: the process died that ended the run, or the network came back to a worker that was given up.
DOUBT = 5.0


class Steps:
    """Makes steps with what its worker holds: the loaded graphs, the pool, the event bus."""

    def __init__(self, resources: Resources) -> None:
        """Take what the worker will have opened."""
        self._resources = resources
        self._deliveries = Deliveries(resources)
        self._pipelines = Pipelines()
        self._untracked = Untracked()

    @activity.defn(name=STEP)
    async def step(self, given: StepInput) -> StepOutcome:
        """Run a superstep from a run's latest checkpoint, and those after it that are short, publishing events as they happen."""
        try:
            return await self._outcome(given)
        except Fenced:
            return SUPERSEDED
        except Unfinished as error:
            log.error("A step is repeated", reason=str(error), run_id=given.run_id, step=given.step)
            raise ApplicationError(
                str(error), UNENDED, type=HANDED_BACK, non_retryable=True, category=ApplicationErrorCategory.BENIGN
            ) from error
        except ApplicationError:
            raise
        except Exception as error:
            if is_outage(error) or is_clash(error):
                # Repeated by the workflow, for as long as it takes.
                raise ApplicationError(
                    str(error), type=UNAVAILABLE, non_retryable=True, category=ApplicationErrorCategory.BENIGN
                ) from error
            raise await self._failed(given, error) from error

    async def _failed(self, given: StepInput, error: Exception) -> ApplicationError:
        """Report what has failed outside of the graph, where the step itself cannot write it."""
        with contextlib.suppress(*TROUBLES):
            async with connection(self._resources.pool) as conn:
                if (run := await runs.find(conn, UUID(given.run_id))) is not None:
                    report(run, error)
        described = describe(error)
        return ApplicationError(
            glimpse(described),
            described["error"],
            MASK if encryption.is_on() else described["message"],
            type=FAILED,
            non_retryable=True,
            category=ApplicationErrorCategory.BENIGN,
        )

    async def _outcome(self, given: StepInput) -> StepOutcome:
        """Execute a step, or wait for the execution that an attempt before this one has begun here."""
        executions, key = self._resources.executions, (given.run_id, given.call)
        while execution := executions.find(key):
            with contextlib.suppress(Fenced):
                outcome = await self._attend(execution)
                if outcome.status != SUPERSEDED.status:
                    return outcome
        return await self._attend(executions.begin(key, self._execute(given)))

    async def _attend(self, execution: Execution) -> StepOutcome:
        """Wait for an execution. What cancels this attempt cancels it, unless only the attempt has been given up."""
        try:
            return await execution.attend()
        except Stopped:
            raise _handed_back() from None
        except asyncio.CancelledError:
            why = why_cancelled()
            if why != "lost":
                await execution.stop()
            if why == "shutdown":
                raise _handed_back() from None
            raise

    async def _died(self) -> int | None:
        """Return the number of the worker whose companion has handed the last attempt back, if it was that."""
        info = activity.info()
        if info.attempt == 1 or not info.workflow_id:
            return None
        handle = activity.client().get_workflow_handle(info.workflow_id, run_id=info.workflow_run_id)
        try:
            pending = (await handle.describe(rpc_timeout=DESCRIBE_TIMEOUT)).raw_description.pending_activities
        except RPCError:
            return None
        last = next((each.last_failure for each in pending if each.activity_id == info.activity_id), None)
        return int(last.source) if last and last.application_failure_info.type == WORKER_DIED else None

    async def _execute(self, given: StepInput) -> StepOutcome:
        began = time.monotonic()
        token, died = token_of(given.call, activity.info().attempt), await self._died()
        async with connection(self._resources.pool) as conn:
            run = await runs.claim(
                conn,
                UUID(given.run_id),
                token=token,
                step=given.step,
                presence=self._resources.presence,
                died=died,
            )
        if run is None:
            return await self._repeated(given)
        with self._resources.metrics.step(run):
            try:
                outcome = await self._claimed(run, given, began)
            except Fenced:
                self._resources.metrics.fenced()
                raise
        if outcome.status == SUPERSEDED.status:
            self._resources.metrics.fenced()
        elif outcome.status != "continue":
            self._resources.metrics.ended(outcome.status)
        return outcome

    async def _claimed(self, run: Run, given: StepInput, began: float) -> StepOutcome:
        if run.deaths >= given.attempts:
            return await self._give_up(run, given)
        # A repeated step goes on alone: what takes a worker down, or does not come to its end, is known by its number.
        budget = 0 if run.repeated else self._resources.settings.step_budget
        until = began + budget if budget else 0
        result = await self._run(run, given, until)
        return await self._conclude(run, result)

    async def _give_up(self, run: Run, given: StepInput) -> StepOutcome:
        """End a run that has taken too many workers down."""
        log.error(
            TOO_OFTEN,
            run_id=str(run.run_id),
            thread_id=str(run.thread_id),
            graph_id=run.graph_id,
            step=given.step,
            deaths=run.deaths,
        )
        error: JsonObject = {"error": "RuntimeError", "message": TOO_OFTEN}
        # To read what the run has left may be what kills: it is tried once.
        position = (
            await self._last_position(run) if run.deaths == given.attempts else Position("error", None, None, None)
        )
        if not await self._end(run, Result("error", position=position, error=error), "error"):
            return SUPERSEDED
        self._resources.publisher.publish(run.run_id, "error", dumps(error))
        await conclude(self._resources.publisher, run, "error", error=TOO_OFTEN, alone=True)
        if run.options.webhook:
            await self._deliveries.begin(run.run_id)
        return StepOutcome("error")

    async def _last_position(self, run: Run) -> Position:
        async with connection(self._resources.pool) as conn:
            checkpoint_id = await runs.last_checkpoint(conn, run)
        unread = Position("error", None, None, checkpoint_id)
        if checkpoint_id is None:
            return unread
        try:
            return await position_at(
                self._resources, run.graph_id, run.thread_id, checkpoint_id=checkpoint_id, options=run.options
            )
        except Unavailable:
            raise
        except Exception:
            log.exception("What a run has left cannot be read", run_id=str(run.run_id))
            return unread

    async def _run(self, run: Run, given: StepInput, until: float) -> Result:
        saver = Saver(self._resources.pool, owner=(str(run.run_id), run.attempt))
        work = self._resources.loops.submit(
            lambda: self._supersteps(run, given, saver, until), graph_id=run.graph_id, run_id=str(run.run_id)
        )
        outcome = asyncio.wrap_future(work.outcome)
        outcome.add_done_callback(_seen)
        losing = asyncio.create_task(self._lost(run, saver))
        try:
            await asyncio.wait([outcome, losing], return_when=asyncio.FIRST_COMPLETED)
            if outcome.cancelled():
                raise RuntimeError("The graph was cancelled from inside")
            if outcome.done():
                return outcome.result()
            await self._stop(work, saver, run, given)
            losing.result()
            raise Fenced(f"Run {run.run_id} has a new owner, or has ended.")
        except asyncio.CancelledError:
            await self._stop(work, saver, run, given)
            raise
        finally:
            saver.seal()
            losing.cancel()

    async def _lost(self, run: Run, saver: Saver) -> None:
        """Wait until a run is not ours any more: a write was refused, or the database says so when it is asked."""
        while True:
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(saver.refused(), DOUBT)
            try:
                async with connection(self._resources.pool) as conn:
                    if not await runs.is_owned(conn, run.run_id, token=run.attempt):
                        return
            except TROUBLES as error:
                # No answer says nothing about the run.
                if not is_outage(error):
                    log.warning("It cannot be told whether a run is still this worker's", error=str(error))

    async def _stop(self, work: Work[Result], saver: Saver, run: Run, given: StepInput) -> None:
        """Cancel the graph, and wait for it as long as the grace allows. What it writes from now on is half done."""
        saver.seal()
        work.cancel()
        stopped = asyncio.wrap_future(work.outcome)
        stopped.add_done_callback(_seen)
        done, _ = await asyncio.wait([stopped], timeout=given.cancel_grace)
        if not done:
            log.warning("A node did not stop when cancelled; what it still writes is refused", run_id=str(run.run_id))

    async def _supersteps(self, run: Run, given: StepInput, saver: Saver, until: float) -> Result:
        """Run on the graphs' loop."""
        outlet = Outlet(self._resources.publisher, run)
        protocol = await self._protocol(run, outlet, resumed=given.step > 0 and not run.repeated)
        loop = asyncio.get_running_loop()
        with (
            self._resources.interest.told(str(run.thread_id), lambda: loop.call_soon_threadsafe(protocol.watched)),
            working(run.run_id, step=given.step),
        ):
            try:
                result = await self._shown(run, given, saver, protocol, outlet, until)
            except (Error, asyncio.CancelledError, GeneratorExit):
                raise
            except BaseException as error:
                # Users' own: their database, too, may be away. What this is raised as ends their run.
                raise Raised(type(error).__name__) from error
            finally:
                protocol.close()
            return replace(result, frames=protocol.requests)

    async def _shown(
        self, run: Run, given: StepInput, saver: Saver, protocol: Protocol, outlet: Outlet, until: float
    ) -> Result:
        emitter = self._emitter(run, protocol, outlet, resumed=given.step > 0 and not run.repeated)
        if given.step == 0 or run.repeated:
            emitter.metadata(str(run.run_id), run.retries + 1)
            # After the metadata: who finds the mark finds the run's stream.
            self._resources.publisher.publish_soon([begun_mark(run)])
        found = await found_by(run, given, saver) if run.repeated else Found(given.limit)
        begun = given.step > 0 or found.source is not None
        config = self._resources.graphs.config_of(run_config(run, begun=begun), executes=True)
        opened = self._resources.graphs.open(
            run.graph_id,
            config=config,
            checkpointer=_plain(saver),
            store=self._resources.store,
            why="threads.create_run",
            context=run.options.context,
        )
        try:
            graph = await opened.__aenter__()
        except (Fenced, Unavailable):
            raise
        except Exception as error:  # noqa: BLE001, whatever a factory raises ends its run
            return unopened(error, emitter)
        async with _left(opened, run) as failure:
            opening = None if begun else await self._opening(run, saver, graph)
            if is_asked(run, opening) and await self._repair(run, graph, config=config, saver=saver):
                config = self._resources.graphs.config_of(run_config(run, begun=True), executes=True)
            told = given_by(run, run.options.command) if begun and given.step == 0 else opening
            async with (
                tracing(graph, run, config, begins=given.step == 0, given=told) as trace,
                self._pipelines.open(graph, run, given.step) as pipeline,
            ):
                untracked = self._untracked.take(run.run_id, given.step, given.counts)
                trace.graph = carrying(trace.graph, untracked)
                result = await superstep(
                    graph,
                    run,
                    given=opening,
                    config=config,
                    limit=found.limit,
                    whole=given.whole,
                    at_input=given.step == 0 and found.source == "input",
                    again=run.repeated if given.again is None else given.again,
                    emitter=emitter,
                    trace=trace,
                    transformed=Transformed(pipeline, emitter.calls),
                    # What a crash would lose is handed over after each superstep.
                    until=0 if carries(graph) else until,
                    done=found.done,
                )
            failure.raised = result.raised
            result = replace(result, ran=emitter.progress.ran())
            if result.status != "continue":
                self._untracked.drop(run.run_id)
                return result
            return replace(result, counts=self._untracked.keep(run.run_id, given.step + 1, untracked))

    async def _protocol(self, run: Run, outlet: Outlet, *, resumed: bool) -> Protocol:
        wanted = speaks_protocol(run) or str(run.thread_id) in self._resources.interest
        if not run.repeated and not resumed and (wanted or self._resources.interest.lately(str(run.thread_id))):
            await self._on_main(lambda: close_before(self._resources, Named.of(run)))
        protocol = Protocol(run, outlet.frames, wanted=wanted, resumed=resumed)
        if wanted and forks(run) and not resumed:
            protocol.undoes(await self._on_main(lambda: self._undone(run)))
        if run.repeated and wanted:
            with contextlib.suppress(RedisError):
                protocol.drop(await self._on_main(lambda: unfinished(self._resources.redis, Named.of(run))))
        return protocol

    async def _undone(self, run: Run) -> Any:
        """Return the state that a run undoes, if its thread had gone back before."""
        async with connection(self._resources.pool) as conn:
            if not await threads.went_back(conn, run.thread_id):
                return None
            thread = await threads.get(conn, run.thread_id, hidden=True)
        return thread and thread.values

    def _emitter(self, run: Run, protocol: Protocol, outlet: Outlet, *, resumed: bool) -> Emitter:
        return Emitter(
            outlet.event,
            room=outlet.room,
            modes=run.options.stream_mode,
            subgraphs=run.options.subgraphs,
            resumed=resumed,
            protocol=protocol,
        )

    async def _repair(self, run: Run, graph: Graph, *, config: RunnableConfig, saver: Saver) -> bool:
        """Repair what was cut off before a run. One that cannot be repaired begins as it would without."""
        try:
            return await repair(graph, run, config=config, saver=saver, heard=lambda tasks: self._heard(run, tasks))
        except (Error, psycopg.Error):
            raise
        except Exception:
            log.exception("A conversation cannot be repaired", run_id=str(run.run_id), thread_id=str(run.thread_id))
            return False

    async def _heard(self, run: Run, tasks: AbstractSet[str]) -> dict[str, Text]:
        """Look up what the runs before this one were saying when they were cut off. What Valkey has lost is not known."""

        async def look() -> dict[str, tuple[str, str]]:
            async with connection(self._resources.pool) as conn:
                before = await runs.worked_before(conn, run)
            found: dict[str, tuple[str, str]] = {}
            for run_id in before:
                if left := tasks - found.keys():
                    found |= await partial_texts(self._resources.redis, run_id, left)
            return found

        try:
            found = await asyncio.wait_for(self._on_main(look), HEARING)
        except (RedisError, TimeoutError) as error:
            log.warning("What a run was saying is not known", run_id=str(run.run_id), error=repr(error))
            return {}
        return {task: Text(*said) for task, said in found.items()}

    async def _opening(self, run: Run, saver: Saver, graph: Graph) -> Any:
        """Return what the run's first step gives to the graph."""
        command = run.options.command
        relays = run.options.relayed_answers is not None
        if not command and not relays:
            return run.options.input
        opening = run.opening
        if run.repeated and opening is not None:
            return given_by(run, await self._on_main(lambda: self._remaining(run, saver, opening)))
        if relays:
            command = await relayed(graph, run)
        await self._on_main(lambda: self._note(run, saver, command))
        return given_by(run, command)

    async def _remaining(self, run: Run, saver: Saver, opening: JsonObject) -> JsonObject | None:
        async with connection(self._resources.pool) as conn:
            return await remaining(conn, saver, run, opening)

    async def _note(self, run: Run, saver: Saver, command: JsonObject | None) -> None:
        async with connection(self._resources.pool) as conn:
            opening = {**await baseline(conn, saver, run), "command": command}
            await runs.note_opening(conn, run.run_id, token=run.attempt, opening=opening)

    async def _on_main(self, make: Any) -> Any:
        """Run a coroutine where the pool is, from the graphs' loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(make(), self._resources.publisher.loop))

    async def _conclude(self, run: Run, result: Result) -> StepOutcome:
        """Write the end of the run, if this was the last step; then say so on the stream."""
        await self._resources.publisher.room(str(run.run_id), frames_subject(run.thread_id))
        if result.status == "continue":
            return StepOutcome(
                "continue", result.nodes, result.limit, counts=result.counts, ran=result.ran, at=result.at
            )
        status: RunStatus = "success" if result.status == "success" else "error"
        if not await self._end(run, result, status):
            return SUPERSEDED
        nodes = ", ".join(result.nodes)
        if result.raised is not None:
            report(run, result.raised, node=nodes)
        asks = bool(result.position and result.position.interrupts)
        error = (result.error or {}).get("message")
        await self._announce(run, status, asks=asks, error=error, frames=result.frames)
        if result.raised is None:
            return StepOutcome(status, ran=result.ran)
        return StepOutcome(
            status, ran=result.ran, error=glimpse(result.error or {}), node=node_of(result.raised) or nodes
        )

    async def _repeated(self, given: StepInput) -> StepOutcome:
        """Say again how a step has ended the run, if one has: its worker may have stopped before anybody heard of it."""
        async with connection(self._resources.pool) as conn:
            run = await runs.find(conn, UUID(given.run_id))
            thread = run and await threads.find(conn, run.thread_id, hidden=True)
        if not run or not thread or run.status not in ("success", "error") or call_of(run.attempt) > given.call:
            return SUPERSEDED
        shown = thread.ended_run_id == run.run_id
        asked = [each for found in (thread.interrupts or {}).values() for each in found] if shown else []
        frames = [requested(Named.of(run), interrupt) for interrupt in asked]
        error = (run.error or {}).get("message")
        await self._announce(run, run.status, asks=bool(asked), error=error, frames=frames)
        return StepOutcome(run.status, error=glimpse(run.error or {}))

    async def _announce(
        self, run: Run, status: RunStatus, *, asks: bool, error: str | None, frames: Sequence[Frame]
    ) -> None:
        """Tell whoever watches, and the webhook, of the end that the row shows. All of it is heard once."""
        if speaks_protocol(run) or self._resources.interest.lately(str(run.thread_id)):
            # Who came at the very end is shown a beginning too.
            begun = running(Named.of(run), run.graph_id)
            self._resources.publisher.publish_frames([begun, *frames, *ending(run, status, asks=asks, error=error)])
        await self._resources.publisher.end(run.run_id, status, thread_id=run.thread_id)
        if run.options.webhook:
            await self._deliveries.begin(run.run_id)

    async def _end(self, run: Run, result: Result, status: RunStatus) -> bool:
        # A graph that cannot be opened has changed nothing.
        position = result.position or Position("error", None, None, None)
        if result.status == "refused":
            async with transaction(self._resources.pool) as conn:
                return await runs.end_refused(conn, run.run_id, token=run.attempt, error=result.error)
        async with connection(self._resources.pool) as conn:
            return await runs.end_owned(
                conn,
                run.run_id,
                token=run.attempt,
                status=status,
                resting="error" if status == "error" else position.resting,
                error=result.error,
                values=position.state,
                interrupts=position.interrupts if position.checkpoint_id else None,
                checkpoint_id=position.checkpoint_id,
            )


@dataclass
class _Failure:
    """What a graph has raised, if anything."""

    raised: BaseException | None = None


@asynccontextmanager
async def _left(opened: AbstractAsyncContextManager[Graph], run: Run) -> AsyncGenerator[_Failure]:
    """Leave a graph that was opened: its factory sees what the graph raised, though that has become the run's outcome.

    What the factory raises then, or keeps to itself, does not undo what the graph has done.
    """
    failure = _Failure()
    try:
        yield failure
    except BaseException as error:
        failure.raised = error
        raise
    finally:
        raised = failure.raised
        try:
            await opened.__aexit__(type(raised) if raised else None, raised, raised.__traceback__ if raised else None)
        except Exception as error:
            if error is not raised:
                log.exception("A factory failed to clean up", run_id=str(run.run_id), graph=run.graph_id)


def _seen(ended: "asyncio.Future[Any]") -> None:
    """Look at the outcome of what nobody may wait for any more, so that asyncio does not report it as lost."""
    if not ended.cancelled():
        ended.exception()


def _handed_back() -> ApplicationError:
    return ApplicationError(
        "The worker is stopping", type=HANDED_BACK, non_retryable=True, category=ApplicationErrorCategory.BENIGN
    )


def _plain(saver: Saver) -> BaseCheckpointSaver[Any]:
    return saver
