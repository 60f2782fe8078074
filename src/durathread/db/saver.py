"""The checkpointer: LangGraph's Postgres saver, every write of which passes a fence."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, LiteralString, TypeAlias, TypeVar, cast
from uuid import UUID

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_serializable_checkpoint_metadata,
)
from langgraph.checkpoint.base import DeltaChannelHistory as History
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

# Private, but part of the tables' format: such a value stands in a checkpoint's row as `true`, and in a blob.
from langgraph.checkpoint.serde.types import _DeltaSnapshot  # pyright: ignore[reportPrivateUsage]
from psycopg.types.json import Jsonb
from psycopg_pool import PoolTimeout

from durathread import encryption
from durathread.db.checkpoint_ids import follow, is_before, uuid6
from durathread.db.pool import Connection, Pool, connection, is_clash, is_outage, refusal, transaction
from durathread.db.sealed import sealed_in
from durathread.db.serde import serializer
from durathread.db.task_writes import Writes, finished, is_cut, storable
from durathread.errors import Fenced, ThreadBusy, Unavailable, Unfinished
from durathread.records import REPAIR

T = TypeVar("T")


Statement: TypeAlias = tuple[LiteralString, dict[str, Any]]

NOT_OWNER = "DT001"
NOT_IDLE = "DT002"
# How often a statement is repeated that has lost against others.
CLASHES_ALLOWED = 3

# The path of a task that another calls (`@task`) begins so: with the caller's. What becomes of it is the caller's business.
CALLED = "~__pregel_push, ~"
# The step of a checkpoint that holds nothing: LangGraph stores it to hang writes on.
STUB = -2

PUT_CHECKPOINT = """
SELECT put_checkpoint(%(owner)s, %(token)s, %(idle)s, %(thread)s, %(ns)s, %(id)s, %(parent)s, %(body)s, %(meta)s,
                      %(channels)s, %(versions)s, %(types)s, %(blobs)b)
"""
PUT_WRITES = """
SELECT put_writes(%(owner)s, %(token)s, %(idle)s, %(thread)s, %(ns)s, %(id)s, %(task)s, %(path)s, %(overwrite)s,
                  %(idxs)s, %(channels)s, %(types)s, %(blobs)b)
"""
# A transaction that holds the thread needs no other fence.
UNGUARDED: Mapping[str, None] = {"owner": None, "token": None, "idle": None}

LATEST = (
    "SELECT max(checkpoint_id) AS id FROM checkpoints WHERE thread_id = %(thread)s AND checkpoint_ns = %(namespace)s"
)

# Where a run has begun on its thread; a repair comes before that.
BEGINNING = """
SELECT metadata ->> 'source' AS source, (metadata ->> 'step')::int AS step FROM checkpoints
WHERE thread_id = %(thread)s AND checkpoint_ns = '' AND metadata ->> 'run_id' = %(run)s
  AND jsonb_typeof(metadata -> 'durathread') IS DISTINCT FROM 'object' ORDER BY checkpoint_id LIMIT 1
"""

STORED_BLOBS = """
SELECT b.channel FROM checkpoint_blobs b, unnest(%(channels)s::text[], %(versions)s::text[]) AS u (channel, version)
WHERE b.thread_id = %(thread)s AND b.checkpoint_ns = %(ns)s AND b.channel = u.channel AND b.version = u.version
"""
# Longer texts are blobs, in characters.
INLINE_TEXT = 1000
LARGEST_INLINE = 1e15
# Of what LangGraph copies from `configurable` into the metadata of checkpoints: by these they are found.
IDS = frozenset(("run_id", "thread_id", "graph_id", "assistant_id", "langgraph_request_id"))

# What a run wrote, and what its writes replaced on checkpoints of earlier runs.
DELETE_CHECKPOINTS = "DELETE FROM checkpoints WHERE metadata ->> 'run_id' = ANY(%(runs)s) RETURNING thread_id, checkpoint_ns, checkpoint_id"
DELETE_CHECKPOINTS_OF_THREAD = (
    "DELETE FROM checkpoints WHERE thread_id = %(thread)s AND metadata ->> 'run_id' = ANY(%(runs)s) "
    "RETURNING thread_id, checkpoint_ns, checkpoint_id"
)
DELETE_WRITES = """
DELETE FROM checkpoint_writes w USING unnest(%(threads)s::text[], %(namespaces)s::text[], %(ids)s::text[]) AS d(t, n, c)
WHERE w.thread_id = d.t AND w.checkpoint_ns = d.n AND w.checkpoint_id = d.c
"""
DELETE_WRITES_OF_RUNS = "DELETE FROM checkpoint_writes WHERE run_id = ANY(%(runs)s)"
RESTORE_WRITES = """
INSERT INTO checkpoint_writes
    (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob, task_path, run_id)
SELECT r.thread_id, r.checkpoint_ns, r.checkpoint_id, r.task_id, r.idx, r.channel, r.type, r.blob, r.task_path, r.run_id
FROM replaced_write r
WHERE r.replaced_by = ANY(%(runs)s) AND (r.run_id IS NULL OR r.run_id <> ALL(%(runs)s))
  AND EXISTS (SELECT 1 FROM checkpoints c WHERE c.thread_id = r.thread_id AND c.checkpoint_ns = r.checkpoint_ns
              AND c.checkpoint_id = r.checkpoint_id)
ON CONFLICT DO NOTHING
"""
FORGET_REPLACED = "DELETE FROM replaced_write WHERE replaced_by = ANY(%(runs)s)"
# A run that is pending has read nothing yet, and does not begin before the transaction that holds it is over.
HOLD_IN_FLIGHT = """
SELECT thread_id, status FROM run WHERE thread_id = ANY(%s) AND status IN ('pending', 'running') ORDER BY run_id FOR UPDATE
"""
DELETE_BLOBS = """
DELETE FROM checkpoint_blobs b WHERE b.thread_id = ANY(%s) AND NOT EXISTS (
    SELECT 1 FROM checkpoints c WHERE c.thread_id = b.thread_id AND c.checkpoint_ns = b.checkpoint_ns
    AND c.checkpoint -> 'channel_versions' ->> b.channel = b.version
)
"""
# A step whose worker was killed may have left writes without their checkpoint. They belong to its run, which a copy lacks.
WITH_CHECKPOINT: LiteralString = """
AND EXISTS (SELECT 1 FROM checkpoints c WHERE c.thread_id = checkpoint_writes.thread_id
            AND c.checkpoint_ns = checkpoint_writes.checkpoint_ns AND c.checkpoint_id = checkpoint_writes.checkpoint_id)
"""
COPY_TABLES: tuple[tuple[LiteralString, LiteralString, LiteralString], ...] = (
    (
        "checkpoints",
        "checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata",
        "",
    ),
    ("checkpoint_blobs", "checkpoint_ns, channel, version, type, blob", ""),
    (
        "checkpoint_writes",
        "checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob, task_path",
        WITH_CHECKPOINT,
    ),
)


class Attempt:
    """What all savers of an attempt know of it; LangGraph clones savers."""

    def __init__(self) -> None:
        """Begin an attempt."""
        # Of checkpoints: they are ordered by time.
        self._sealed: str | None = None
        # Of the loop that the pool belongs to.
        self.refused = asyncio.Event()
        # Tasks that were cancelled, by namespace and checkpoint that they follow.
        self._cut: dict[tuple[str, str], set[str]] = {}
        self._doubt: tuple[str, Unfinished] | None = None
        # Looks at what a graph goes on from, until it has begun.
        self.examine: Callable[[str, CheckpointTuple], None] | None = None

    @property
    def sealed(self) -> bool:
        """Whether the attempt was given up."""
        return self._sealed is not None

    def seal(self) -> None:
        """Let nothing be written any more but checkpoints that were reached before. May be called from any thread."""
        if self._sealed is None:
            self._sealed = str(uuid6())

    def doubt(self, reason: Unfinished) -> None:
        """Let no checkpoint be written that is reached from now on, for this reason."""
        self._doubt = self._doubt or (str(uuid6()), reason)

    def judge(self, writes: Writes, *, ns: str, checkpoint_id: str, task: str, path: str) -> None:
        """Note whether a task of the superstep after a checkpoint was cancelled; it may be tried again."""
        cut = self._cut.setdefault((ns, checkpoint_id), set())
        if is_cut(writes) and not path.startswith(CALLED):
            cut.add(task)
        else:
            cut.discard(task)

    def admit_writes(self) -> None:
        """Refuse the writes of tasks, if the attempt was given up."""
        if self._sealed is not None:
            raise Fenced("The attempt was given up before this was written.")

    def admit_checkpoint(self, checkpoint_id: str, *, ns: str, parent: str | None, step: int | None) -> None:
        """Refuse a checkpoint that was reached after the attempt was given up, or over a task that was cancelled."""
        if self._sealed is not None and (checkpoint_id > self._sealed or step == STUB):
            raise Fenced("The attempt was given up before this checkpoint was reached.")
        if self._doubt is not None and checkpoint_id > self._doubt[0]:
            raise self._doubt[1]
        if parent is not None and is_before(checkpoint_id, parent):
            raise Unfinished(f"The checkpoint would sort before {parent}, which it follows: nobody would find it.")
        if parent is not None and self._cut.get((ns, parent)):
            raise Unfinished(f"A task that follows checkpoint {parent} was cancelled, so no checkpoint can follow it.")


class Saver(AsyncPostgresSaver):
    """Stores checkpoints through the pool of the process.

    A graph may use it from any event loop and thread: each call is carried out on the loop that it was built on, so that
    a node that blocks its own loop never holds a transaction open.
    """

    def __init__(self, pool: Pool, *, owner: tuple[str, int] | None = None, idle_thread: str | None = None) -> None:
        """Build a saver for a run's attempt (`owner`: run id and token), for changes to an idle thread, or unguarded.

        Must be called on the event loop that the pool belongs to.
        """
        super().__init__(cast(Any, pool), serde=serializer())
        self._pool = pool
        self._owner = owner
        self._idle_thread = idle_thread
        self._attempt = Attempt()

    @property
    def sealed(self) -> bool:
        """Whether the attempt was given up."""
        return self._attempt.sealed

    def seal(self) -> None:
        """Give the attempt up: what its graph still writes, nodes that do not stop included, is refused.

        To be called before the graph is cancelled. May be called from any thread.
        """
        self._attempt.seal()

    async def refused(self) -> None:
        """Wait, on the loop that the pool belongs to, until the fence has refused a write: the run is not ours any more."""
        await self._attempt.refused.wait()

    def doubt(self, reason: Unfinished) -> None:
        """Refuse checkpoints that are reached from now on: a node that leads to them was cancelled."""
        self._attempt.doubt(reason)

    def examine(self, look: Callable[[str, CheckpointTuple], None] | None) -> None:
        """Have each checkpoint that is read looked at, with its namespace; what that raises, the reader is told."""
        self._attempt.examine = look

    async def _here(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the pool's loop.

        Raises:
            Unavailable: the database cannot be reached. Not psycopg's own error, which a node may raise of another database.
            NotStored: the database refuses what it was asked.
        """
        try:
            if asyncio.get_running_loop() is self.loop:
                return await make()
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(make(), self.loop))
        except (psycopg.Error, PoolTimeout) as error:
            if is_outage(error):
                raise Unavailable("The database is unavailable.") from error
            if isinstance(error, psycopg.Error) and error.sqlstate not in (NOT_OWNER, NOT_IDLE):
                raise refusal(error) from error
            raise

    async def _write(self, statement: Statement) -> None:
        """Run a statement that passes the fence before it writes.

        Raises:
            Fenced: the attempt does not own its run any more.
            ThreadBusy: a run of the thread is in flight.
        """
        owner, token = self._owner or (None, None)
        query, args = statement

        async def write() -> None:
            given = {**args, "owner": owner, "token": token, "idle": self._idle_thread}
            for left in range(CLASHES_ALLOWED, -1, -1):
                try:
                    async with self._pool.connection() as conn:
                        await conn.execute(query, given)
                    return
                except psycopg.Error as error:
                    if not left or not is_clash(error):
                        raise

        try:
            await self._here(write)
        except psycopg.Error as error:
            if error.sqlstate == NOT_OWNER:
                self._attempt.seal()
                self.loop.call_soon_threadsafe(self._attempt.refused.set)
                raise Fenced(f"Run {owner} has a new owner, or has ended.") from None
            if error.sqlstate == NOT_IDLE:
                raise ThreadBusy("A run of the thread is in flight.") from None
            raise

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Save a checkpoint, if the fence lets it through.

        Raises:
            Fenced: the attempt does not own its run any more, or was given up.
            Unfinished: a task that led to it was cancelled.
        """
        address = config.get("configurable", {})
        ns, parent = address["checkpoint_ns"], address.get("checkpoint_id")
        self._attempt.admit_checkpoint(checkpoint["id"], ns=ns, parent=parent, step=metadata.get("step"))
        missing = await self.missing_blobs(config, checkpoint, new_versions)
        await self._write(self.checkpoint_statement(config, checkpoint, metadata, {**missing, **new_versions}))
        return address_of(config, checkpoint)

    async def missing_blobs(
        self, config: RunnableConfig, checkpoint: Checkpoint, new_versions: ChannelVersions
    ) -> ChannelVersions:
        """Name the values that did not change, and that an older version of ours has stored in the checkpoint's row."""
        values, versions = checkpoint["channel_values"], checkpoint["channel_versions"]
        once_inline = [
            channel
            for channel, value in values.items()
            if channel not in new_versions and isinstance(value, str | int | float | None) and not _fits_inline(value)
        ]
        if not once_inline:
            return {}
        args = {
            "thread": config.get("configurable", {})["thread_id"],
            "ns": config.get("configurable", {})["checkpoint_ns"],
            "channels": once_inline,
            "versions": [str(versions[channel]) for channel in once_inline],
        }

        async def read() -> set[str]:
            async with self._pool.connection() as conn:
                return {row["channel"] for row in await (await conn.execute(STORED_BLOBS, args)).fetchall()}

        stored = await self._here(read)
        return {channel: versions[channel] for channel in once_inline if channel not in stored}

    def checkpoint_statement(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> Statement:
        """Build what saves a checkpoint. It says nothing of a fence: `UNGUARDED` has no need of one."""
        address = config.get("configurable", {})
        inline, blobs = _split_values(checkpoint["channel_values"])
        meta = cast(dict[str, Any], get_serializable_checkpoint_metadata(config, metadata))
        stored = [
            (channel, str(version), *self.serde.dumps_typed(blobs[channel]))
            for channel, version in new_versions.items()
            if channel in blobs
        ]
        channels, versions, types, bodies = _columns(stored, 4)
        args = {
            "thread": address["thread_id"],
            "ns": address["checkpoint_ns"],
            "id": checkpoint["id"],
            "parent": address.get("checkpoint_id"),
            "body": Jsonb({**checkpoint, "channel_values": inline}),
            "meta": sealed_in(meta, [key for key in meta if key in address and key not in IDS]),
            "channels": channels,
            "versions": versions,
            "types": types,
            "blobs": bodies,
        }
        return PUT_CHECKPOINT, args

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Save the writes of a task, if the fence lets them through and the task came to its end.

        Raises:
            Fenced: the attempt does not own its run any more, or was given up.
        """
        address = config.get("configurable", {})
        ns, checkpoint_id = address["checkpoint_ns"], address["checkpoint_id"]
        self._attempt.admit_writes()
        self._attempt.judge(writes, ns=ns, checkpoint_id=checkpoint_id, task=task_id, path=task_path)
        if kept := storable(writes):
            await self._write(self.writes_statement(config, kept, task_id, task_path))

    def writes_statement(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> Statement:
        """Build what saves the writes of a task, as `checkpoint_statement` does."""
        address = config.get("configurable", {})
        stored = [
            (WRITES_IDX_MAP.get(channel, position), channel, *self.serde.dumps_typed(value))
            for position, (channel, value) in enumerate(writes)
        ]
        idxs, channels, types, bodies = _columns(stored, 4)
        args = {
            "thread": address["thread_id"],
            "ns": address["checkpoint_ns"],
            "id": address["checkpoint_id"],
            "task": task_id,
            "path": task_path,
            "overwrite": all(channel in WRITES_IDX_MAP for channel, _ in writes),
            "idxs": idxs,
            "channels": channels,
            "types": types,
            "blobs": bodies,
        }
        return PUT_WRITES, args

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Read a checkpoint. What LangGraph stores afterwards sorts after all that is there."""
        found = await self._here(lambda: super(Saver, self).aget_tuple(config))
        if found is not None:
            newest: str | None = found.checkpoint["id"]
            address = config.get("configurable", {})
            if address.get("checkpoint_id"):
                newest = await self.alatest(str(address["thread_id"]), namespace=address.get("checkpoint_ns", ""))
            follow(newest or "")
            if self._attempt.examine is not None:
                self._attempt.examine(address.get("checkpoint_ns", ""), found)
        return found and self._foreign(_believed(found))

    def _foreign(self, found: CheckpointTuple) -> CheckpointTuple:
        """Show a repair that was made for this very run as nobody's: LangGraph takes a run's own for one that has its input."""
        if self._owner is None or not made_by(found.metadata, self._owner[0]):
            return found
        metadata = {key: value for key, value in found.metadata.items() if key != "run_id"}
        return found._replace(metadata=cast(CheckpointMetadata, metadata))

    async def alatest(self, thread_id: str, *, namespace: str = "") -> str | None:
        """Return the id of a thread's latest checkpoint: of its root graph, or of a subgraph."""
        args = {"thread": thread_id, "namespace": namespace}

        async def read() -> str | None:
            async with connection(self._pool) as conn:
                return (await (await conn.execute(LATEST, args)).fetchall())[0]["id"]

        return await self._here(read)

    async def abeginning(self, thread_id: str, run_id: str) -> tuple[str, int] | None:
        """Return LangGraph's source and number of the first checkpoint that a run has written of its root graph."""
        args = {"thread": thread_id, "run": run_id}

        async def read() -> tuple[str, int] | None:
            async with connection(self._pool) as conn:
                row = await (await conn.execute(BEGINNING, args)).fetchone()
            return (row["source"], row["step"]) if row else None

        return await self._here(read)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """List checkpoints, newest first."""

        async def collect() -> list[CheckpointTuple]:
            found = super(Saver, self).alist(config, filter=filter, before=before, limit=limit)
            return [_believed(item) async for item in found]

        for item in await self._here(collect):
            yield item

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, History]:
        """Read what delta channels are rebuilt from."""
        return await self._here(lambda: super(Saver, self).aget_delta_channel_history(config=config, channels=channels))

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete all that is stored of a thread."""
        await self._here(lambda: super(Saver, self).adelete_thread(thread_id))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete the older checkpoints of threads, or all."""
        await self._here(lambda: super(Saver, self).aprune(thread_ids, strategy=strategy))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete what runs wrote, in every namespace, and bring back what they replaced."""

        async def delete() -> None:
            async with transaction(self._pool) as conn:
                await delete_for_runs(conn, [str(run) for run in run_ids])

        await self._here(delete)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints of a thread, pending writes included, to another thread."""

        async def copy() -> None:
            async with transaction(self._pool) as conn:
                await copy_thread(conn, str(source_thread_id), str(target_thread_id))

        await self._here(copy)


def made_by(metadata: Mapping[str, Any], run_id: UUID | str) -> bool:
    """Say whether a checkpoint is a repair that was made for a run."""
    mark = metadata.get(REPAIR)
    return isinstance(mark, dict) and cast(dict[str, Any], mark).get("run_id") == str(run_id)


def address_of(config: RunnableConfig, checkpoint: Checkpoint) -> RunnableConfig:
    """Say where a checkpoint is, once it is saved."""
    address = config.get("configurable", {})
    return {
        "configurable": {
            "thread_id": address["thread_id"],
            "checkpoint_ns": address["checkpoint_ns"],
            "checkpoint_id": checkpoint["id"],
        }
    }


def _believed(found: CheckpointTuple) -> CheckpointTuple:
    return found._replace(pending_writes=finished(found.pending_writes or []))


def _split_values(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide a checkpoint's values: small primitive ones stand in its row, others are blobs, as the base class reads them.

    A row is written anew for each checkpoint, a blob only when its value has changed.
    """
    inline: dict[str, Any] = {}
    blobs: dict[str, Any] = {}
    for channel, value in values.items():
        if isinstance(value, _DeltaSnapshot):
            inline[channel], blobs[channel] = True, value
        elif _fits_inline(value):
            inline[channel] = value
        else:
            blobs[channel] = value
    return inline, blobs


def _fits_inline(value: Any) -> bool:
    """Say whether a value is small, and comes back from JSON in Postgres as it was: of its very type, to the last bit.

    What is encrypted is a blob.
    """
    if encryption.is_on():
        return False
    if value is None or type(value) in (bool, int):
        return True
    if type(value) is str:
        return len(value) <= INLINE_TEXT and "\x00" not in value
    # Postgres has one kind of number: a large float would come back as an integer, and minus zero as zero.
    return type(value) is float and abs(value) < LARGEST_INLINE and str(value) != "-0.0"


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


async def delete_for_runs(conn: Connection, run_ids: Sequence[str], *, thread_id: str | None = None) -> None:
    """Take away what runs wrote, as if they had never been.

    With a `thread_id` only that thread is searched, by index.
    """
    args = {"runs": list(run_ids), "thread": thread_id}
    query = DELETE_CHECKPOINTS if thread_id is None else DELETE_CHECKPOINTS_OF_THREAD
    gone = await (await conn.execute(query, args)).fetchall()
    await conn.execute(
        DELETE_WRITES,
        {
            "threads": [row["thread_id"] for row in gone],
            "namespaces": [row["checkpoint_ns"] for row in gone],
            "ids": [row["checkpoint_id"] for row in gone],
        },
    )
    await conn.execute(DELETE_WRITES_OF_RUNS, args)
    await conn.execute(RESTORE_WRITES, args)
    await conn.execute(FORGET_REPLACED, args)
    await _delete_blobs(conn, {row["thread_id"] for row in gone})


async def _delete_blobs(conn: Connection, thread_ids: AbstractSet[str]) -> None:
    """Take away the values of threads that no checkpoint refers to.

    A run that works may have read a checkpoint that is gone, and will write others that refer to the same values: they stay
    until the next deletion.
    """
    held = await (await conn.execute(HOLD_IN_FLIGHT, ([*filter(None, map(_uuid, thread_ids))],))).fetchall()
    needed = {str(row["thread_id"]) for row in held if row["status"] == "running"}
    await conn.execute(DELETE_BLOBS, ([*(thread_ids - needed)],))


def _uuid(text: str) -> UUID | None:
    """Read the id of a thread that may have runs: other savers' may be any text."""
    try:
        return UUID(text)
    except ValueError:
        return None


async def copy_thread(conn: Connection, source: str, target: str) -> None:
    """Copy the checkpoints, blobs and pending writes of a thread."""
    for table, columns, only in COPY_TABLES:
        query: LiteralString = (
            f"INSERT INTO {table} (thread_id, {columns}) SELECT %s, {columns} FROM {table} WHERE thread_id = %s {only}"
        )
        await conn.execute(query, (target, source))
