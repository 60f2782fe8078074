"""How much room a thread takes: `GET /threads/{thread_id}/storage`."""

from pydantic import BaseModel, Field
from starlette.responses import Response

from durathread.api.auth.authorization import CallerDep
from durathread.api.deps import ServerDep, ThreadId, existing_thread
from durathread.api.http.bodies import Routes
from durathread.api.http.error_answers import problems
from durathread.api.http.json_answers import Json
from durathread.db import thread_size
from durathread.db.pool import connection

router = Routes(prefix="/threads/{thread_id}/storage", tags=["Threads"])


class Stored(BaseModel):
    """Rows, and the bytes that they take."""

    rows: int
    bytes: int


class Storage(BaseModel):
    """What is stored of a thread."""

    thread_id: str
    total_bytes: int
    tables: dict[str, Stored] = Field(description="By table, as compressed as the database keeps them.")
    channels: dict[str, Stored] = Field(
        description="By channel of the graph: versions and pending writes, uncompressed."
    )


@router.get("", response_model=Storage, responses=problems(404))
async def measure(thread_id: ThreadId, server: ServerDep, caller: CallerDep) -> Response:
    """Measure what is stored of a thread."""
    await existing_thread(server, thread_id, visible_to=await caller.may_read(thread_id))
    async with connection(server.pool) as conn:
        found = await thread_size.of_thread(conn, thread_id)
    return Json({"thread_id": thread_id, **found})
