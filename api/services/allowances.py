"""What the sender of a request may have: whose it will be, and how many bytes of it they may have stored."""

from dataclasses import replace

from durathread.api.auth.authorization import Caller
from durathread.api.deps import Server
from durathread.db import stored
from durathread.db.pool import connection
from durathread.records import Allowance, NewRun


async def room_of(server: Server, caller: Caller, *, creates: bool = True) -> Allowance:
    """Return whose what a request creates will be, and how much they may have stored.

    Args:
        server: for its terms.
        caller: who sends the request.
        creates: whether it does nothing but create something: it is refused at once if there is no room.

    Raises:
        TooMany: there is no room.
    """
    found = Allowance(await holder_of(server, caller), server.terms.most_bytes)
    await stored.look(server.pool, found, creates=creates)
    return found


async def holder_of(server: Server, caller: Caller) -> str:
    """Name whose what a request creates will be: its user's; if a node sends it, whose the node's run is; or nobody's."""
    if caller.user is not None and server.terms.authenticates:
        return caller.user.identity.replace("\x00", "")
    if caller.call is None:
        return ""
    async with connection(server.pool) as conn:
        return await stored.holder_of_run(conn, caller.call.run_id)


async def with_holder(server: Server, caller: Caller, new: NewRun) -> NewRun:
    """Make a run that names nobody the run of whoever's node sends it."""
    if not new.allowance.holder and caller.call is not None:
        holder = await holder_of(server, caller)
        new = replace(new, allowance=replace(new.allowance, holder=holder), room=replace(new.room, holder=holder))
    await stored.look(server.pool, new.room, creates=False)
    return new
