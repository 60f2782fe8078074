"""The activities that bring runs to threads which did not come through the API."""

from typing import Any
from uuid import UUID

import psycopg
import structlog
from pydantic import ValidationError
from temporalio import activity
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from durathread.activities.resources import Resources
from durathread.db import admission, runs
from durathread.db.pool import transaction
from durathread.errors import Conflict, Error, Forbidden, Unavailable
from durathread.graphs.failures import shown_text
from durathread.records import JsonObject
from durathread.runs.policies import Terms
from durathread.runs.request import RunCreate, find_assistant, prepare, signal_of
from durathread.streams.publisher import Publisher
from durathread.streams.thread_markers import conclude
from durathread.temporal.connection import run_workflow_id, thread_workflow_id
from durathread.users import User
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
            terms = self._resources.terms
            _require_signals(terms)
            _require_own(thread_id)
            payload = {"assistant_id": request.assistant_id or request.graph_id, **(request.payload or {})}
            user = _named(payload.pop("user", None), terms)
            body = RunCreate.model_validate({"multitask_strategy": request.strategy, **payload})
            async with transaction(self._resources.pool) as conn:
                # A repeat of this activity finds what the first attempt has admitted.
                known = await runs.get(conn, run_id)
                if known is not None and known.thread_id != thread_id:
                    raise Conflict(f"Run {run_id} is not of thread {thread_id}.")
                if known is not None:
                    return signal_of(known, (), limits=request.limits, nodes=[])
                assistant = await find_assistant(conn, self._resources.graphs, body.assistant_id)
                new = prepare(body, assistant, terms=terms, thread_id=thread_id, run_id=run_id, server=user)
                admitted = await admission.admit(conn, new)
        except Unavailable:
            raise
        except (Error, ValidationError, ValueError, psycopg.DataError) as error:
            raise ApplicationError(shown_text(error), type=REFUSED, non_retryable=True) from error
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


def _require_signals(terms: Terms) -> None:
    """Refuse runs whose sender nobody has asked who they are, unless langgraph.json allows them.

    Raises:
        Forbidden: it does not.
    """
    if not terms.signals:
        raise Forbidden(
            "Runs by signal are refused where users are authenticated, or what is stored is encrypted, unless "
            "temporal.signals allows them."
        )


def _require_own(thread_id: UUID) -> None:
    """Refuse a run for another thread than that of the workflow that asks: only a workflow's id says whose it is.

    Raises:
        Forbidden: it is.
    """
    if activity.info().workflow_id != thread_workflow_id(thread_id):
        raise Forbidden(f"The workflow {activity.info().workflow_id} is not that of thread {thread_id}.")


def _named(user: Any, terms: Terms) -> JsonObject:
    """Return what a run finds in `configurable` of the user that its signal names.

    Raises:
        ValueError: it names nobody, or names somebody where nobody is known.
    """
    if user is None:
        # Not what the payload claims.
        return dict.fromkeys(("user_id", "langgraph_auth_user_id"), "") if terms.authenticates else {}
    if not terms.authenticates:
        raise ValueError("There is no auth that knows users.")
    return User.of(user).configurable()


async def announce(publisher: Publisher, admitted: admission.Admission) -> None:
    """End the streams of the runs that an admission ended."""
    status = "rollback" if admitted.run.strategy == "rollback" else "interrupted"
    for run in admitted.superseded:
        await conclude(publisher, run, status, before=admitted.before)
