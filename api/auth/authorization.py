"""What the sender of a request may do. Every route that touches a resource asks its `Caller` first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, cast
from uuid import UUID

from fastapi import Depends
from starlette.requests import HTTPConnection

from durathread.api.auth.handlers import AuthAction, Authority, Resource
from durathread.api.deps import ServerDep
from durathread.api.http.in_process import is_in_process
from durathread.db.filters import Filter
from durathread.db.idempotency import Key
from durathread.errors import Forbidden, Unauthenticated
from durathread.inprocess.calls import HEADER, Call
from durathread.inprocess.clients import CALL
from durathread.records import JsonObject
from durathread.runs.request import UUID_FORM
from durathread.users import User

KEY = "durathread.caller"
# Of a request's scope: the key by which it may be repeated.
IDEMPOTENCY = "durathread.idempotency"


@dataclass(frozen=True)
class Caller:
    """Who sends a request, and who decides what they may do. Without an authority, everything."""

    authority: Authority | None = None
    user: User | None = None
    call: Call | None = None
    """Of a node in this process: which request of which run."""
    run_id: UUID | None = None
    """The run that sends the request, if it says so."""
    key: Key | None = None
    """By which the request may be repeated."""

    @property
    def names(self) -> Call | Key | None:
        """What names the things that the request makes, if a repetition of it is to find them."""
        return self.key or self.call

    async def ask(self, resource: Resource, action: AuthAction, value: JsonObject) -> Filter | None:
        """Return which of the resource's objects the caller may do something to; None for all of them.

        Args:
            resource: what is touched. Runs are touched as what belongs to `threads`.
            action: what is done to it.
            value: what is asked for, as the SDK's `Auth` types say it. The handler may change it: do what it says then.

        Raises:
            Forbidden: the caller may not do it.
            HTTPException: the handler refuses in its own words.
        """
        if self.authority is None or self.user is None:
            return None
        return await self.authority.decide(self.user, resource, action, value)

    async def may_read(self, thread_id: UUID, run_id: UUID | None = None) -> Filter | None:
        """Ask whether a thread may be read, or a run of it."""
        return await self.ask("threads", "read", _named(thread_id, run_id))

    async def may_delete(self, thread_id: UUID, run_id: UUID | None = None) -> Filter | None:
        """Ask whether a thread may be deleted, or a run of it."""
        return await self.ask("threads", "delete", _named(thread_id, run_id))

    async def may_cancel(
        self,
        thread_id: UUID | None,
        run_ids: Sequence[UUID] = (),
        *,
        action: str = "interrupt",
        status: str | None = None,
    ) -> Filter | None:
        """Ask whether runs may be cancelled: some of a thread, or all that have a status."""
        named = {"run_ids": list(run_ids), **({"status": status} if status else {})}
        return await self.ask("threads", "update", {"thread_id": thread_id, "action": action, "metadata": named})

    @property
    def configurable(self) -> JsonObject:
        """What graphs that work for the caller find in `configurable`."""
        return self.user.configurable(self.authority.keys if self.authority else None) if self.user else {}

    @property
    def user_id(self) -> str | None:
        """Who the caller is, if that is known."""
        return self.user.identity if self.user else None


def stamped(metadata: JsonObject, visible_to: Filter | None) -> JsonObject:
    """Add to the metadata of what is made what all must have that its caller finds.

    Raises:
        Forbidden: it would be another's.
    """
    full = {**(visible_to.sole if visible_to else {}), **metadata}
    require_own(full, visible_to)
    return full


def require_own(metadata: JsonObject, visible_to: Filter | None) -> None:
    """Refuse to leave a row that its writer would not find: it would be another's.

    Raises:
        Forbidden: the filter does not let it through.
    """
    if visible_to is not None and not visible_to.admits(metadata):
        raise Forbidden("Forbidden")


def _named(thread_id: UUID, run_id: UUID | None) -> JsonObject:
    return {"thread_id": thread_id, **({"run_id": run_id} if run_id else {})}


# Whoever it is, where nobody is authenticated; and requests from within the process.
ANYBODY = Caller()


async def get_caller(connection: HTTPConnection, server: ServerDep) -> Caller:
    """Return who sends a request.

    Raises:
        Unauthenticated: nobody has asked, although there is somebody to ask.
    """
    found = cast("Caller | None", connection.scope.get(KEY))
    if found is None and server.authority is not None:
        raise Unauthenticated("Unauthorized")
    call: Call | None = connection.scope.get(CALL) if is_in_process(connection.scope) else None
    run_id = call.run_id if call else as_uuid(connection.headers.get(HEADER, ""))
    key: Key | None = connection.scope.get(IDEMPOTENCY)
    return replace(found or ANYBODY, call=call, run_id=run_id, key=key) if run_id or key else found or ANYBODY


def as_uuid(text: str) -> UUID | None:
    """Read an id that somebody may have made up."""
    return UUID(text) if UUID_FORM.fullmatch(text) else None


CallerDep = Annotated[Caller, Depends(get_caller)]
