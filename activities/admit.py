"""The activities that bring runs to threads which did not come through the API."""

from uuid import UUID

import psycopg
import structlog
from pydantic import ValidationError
from temporalio import activity
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from durathread.activities.resources import Resources
from durathread.errors import Error, Unavailable
from durathread.preparation import RunCreate, find_assistant, prepare, signal_of
from durathread.store import admission, runs
from durathread.store.pool import transaction
from durathread.streams.marks import conclude
from durathread.streams.publisher import Publisher
from durathread.temporal import run_workflow_id
from durathread.workflows.messages import ADMIT, AWAIT_RUN, REFUSED, RunRequest

log = structlog.get_logger()


class Admissions:
    """Admits runs that were signalled by somebody else than the API, and waits for runs of threads that were lost."""

    def __init__(self, resources: Resources) -> None:
        """Take what the worker will have opened."""
        self._resources = resources

    @activity.defn(name=ADMIT)
    async def admit(self, request: RunRequest) -> RunRequest:
        """Admit a run, and return it as the API would have signalled it.

        Raises:
            ApplicationError: of type `Refused`: the run is not valid, or its strategy is `reject` and the thread busy.
        """
        try:
            run_id, thread_id = _canonical(request.run_id), _canonical(request.thread_id)
            payload = {"assistant_id": request.assistant_id or request.graph_id, **(request.payload or {})}
            body = RunCreate.model_validate({"multitask_strategy": request.strategy, **payload})
            async with transaction(self._resources.pool) as conn:
                # A repeat of this activity finds what the first attempt has admitted.
                known = await runs.get(conn, run_id)
                if known is not None:
                    return signal_of(known, (), limits=request.limits, nodes=[])
                assistant = await find_assistant(conn, self._resources.graphs, body.assistant_id)
                terms = self._resources.terms
                new = prepare(body, assistant, terms=terms, thread_id=thread_id, run_id=run_id)
                admitted = await admission.admit(conn, new)
        except Unavailable:
            raise
        except (Error, ValidationError, ValueError, psycopg.DataError) as error:
            raise ApplicationError(str(error), type=REFUSED, non_retryable=True) from error
        await announce(self._resources.publisher, admitted)
        return signal_of(admitted.run, admitted.superseded, limits=request.limits, nodes=[])

    @activity.defn(name=AWAIT_RUN)
    async def await_run(self, run_id: str) -> None:
        """Wait until a run's workflow has closed, however it does."""
        handle = activity.client().get_workflow_handle(run_workflow_id(run_id))
        try:
            await handle.result()
        except WorkflowFailureError as error:
            log.info("A run's workflow failed", run_id=run_id, cause=repr(error.cause))
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise


def _canonical(text: str) -> UUID:
    """Read an id that workflows are named by: spelled otherwise, it would name another workflow."""
    if str(found := UUID(text)) != text:
        raise ValueError(f"'{text}' is not spelled as '{found}'.")
    return found


async def announce(publisher: Publisher, admitted: admission.Admission) -> None:
    """End the streams of the runs that an admission ended."""
    status = "rollback" if admitted.run.strategy == "rollback" else "interrupted"
    for run in admitted.superseded:
        await conclude(publisher, run, status, before=admitted.before)
