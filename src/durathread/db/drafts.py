"""Checkpoints that are thought out first, and written at once or not at all."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    PendingWrite,
)

from durathread.db.pool import Connection
from durathread.db.saver import UNGUARDED, Saver, Statement, address_of

Place = tuple[str, str]


@dataclass
class _Page:
    """A checkpoint that is not written yet. Its values are kept as they will be stored: whoever reads them gets copies."""

    config: RunnableConfig
    checkpoint: Checkpoint
    metadata: CheckpointMetadata
    parent: RunnableConfig | None
    values: dict[str, tuple[str, bytes]] = field(default_factory=dict[str, tuple[str, bytes]])


class Draft(BaseCheckpointSaver[str]):
    """Shows a thread as it will be when what it was given is written; nothing is, until `write`.

    So users' reducers run in no transaction. Whoever writes makes sure first that the thread is as it was read.
    """

    def __init__(self, saver: Saver) -> None:
        """Begin on top of what a saver reads."""
        super().__init__(serde=saver.serde)
        self._saver = saver
        self._pages: dict[Place, _Page] = {}
        self._writes: dict[Place, list[PendingWrite]] = {}
        self._statements: list[Statement] = []

    async def write(self, conn: Connection) -> None:
        """Write all that was given. The caller holds a transaction, and the thread."""
        for query, args in self._statements:
            await conn.execute(query, {**args, **UNGUARDED})

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Take a checkpoint."""
        missing = await self._saver.missing_blobs(config, checkpoint, new_versions)
        written = {**missing, **new_versions}
        self._statements.append(self._saver.checkpoint_statement(config, checkpoint, metadata, written))
        address = address_of(config, checkpoint)
        known = config.get("configurable", {}).get("checkpoint_id")
        parent = {**address["configurable"], "checkpoint_id": known} if known else None  # pyright: ignore[reportTypedDictNotRequiredAccess]
        self._pages[_place(address)] = _Page(
            address,
            checkpoint,
            metadata,
            cast(RunnableConfig, {"configurable": parent}) if parent else None,
            {channel: self.serde.dumps_typed(value) for channel, value in checkpoint["channel_values"].items()},
        )
        return address

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Take the writes of a task."""
        self._statements.append(self._saver.writes_statement(config, writes, task_id, task_path))
        taken = self._writes.setdefault(_place(config), [])
        taken += [(task_id, channel, value) for channel, value in writes]

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Read a checkpoint, drafted or stored; the latest without an id."""
        namespace, checkpoint_id = _place(config)
        if not checkpoint_id:
            checkpoint_id = max((known for ns, known in self._pages if ns == namespace), default="")
        page = self._pages.get((namespace, checkpoint_id))
        found = self._shown(page) if page else await self._saver.aget_tuple(config)
        if found is None:
            return None
        more = self._writes.get(_place(found.config), [])
        return found._replace(pending_writes=[*(found.pending_writes or []), *more])

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """List checkpoints, the newest first: those that are drafted, then those that are stored."""
        namespace, _ = _place(config or {})
        drafted = sorted((place for place in self._pages if place[0] == namespace), reverse=True)
        for place in drafted[:limit]:
            if found := await self.aget_tuple(self._pages[place].config):
                yield found
        left = None if limit is None else limit - len(drafted)
        if left is None or left > 0:
            async for found in self._saver.alist(config, filter=filter, before=before, limit=left):
                yield found

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Number a channel's values as the saver does."""
        return self._saver.get_next_version(current, channel)

    def _shown(self, page: _Page) -> CheckpointTuple:
        values = {channel: self.serde.loads_typed(value) for channel, value in page.values.items()}
        checkpoint: Checkpoint = {**page.checkpoint, "channel_values": values}
        return CheckpointTuple(page.config, checkpoint, page.metadata, page.parent, [])


def _place(config: RunnableConfig) -> Place:
    address = config.get("configurable", {})
    return address.get("checkpoint_ns") or "", address.get("checkpoint_id") or ""
