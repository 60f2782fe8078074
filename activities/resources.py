"""What the activities of a worker share, open while the worker runs."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import cached_property
from uuid import UUID

from langgraph.store.base import BaseStore
from redis.asyncio import Redis
from temporalio.client import Client

from durathread.activities.execution import Executions
from durathread.activities.worker_metrics import WorkerMetrics
from durathread.companion.spawn import Companions
from durathread.config.settings import Settings
from durathread.db import deployment as deployments
from durathread.db import serde
from durathread.db.deployment import Deployment
from durathread.db.memory_store import LoopStore, open_store
from durathread.db.pool import Pool, connection, open_pool, wait_for_database
from durathread.db.presence import Presence, let_go
from durathread.errors import Unavailable
from durathread.graphs.embedding import store_config_on
from durathread.graphs.loops import THREADS, GraphLoops
from durathread.graphs.registration import names_of, register
from durathread.graphs.registry import Graphs
from durathread.process.lifecycle import Owner
from durathread.process.stalls import Turns
from durathread.runs.policies import Terms, terms_of
from durathread.streams.presence import Interest
from durathread.streams.publisher import Publisher, open_publisher
from durathread.streams.valkey import connect
from durathread.webhooks.policy import Dress, dress_of, require_domains


class Resources:
    """Connections and graphs. Built before a worker, opened when it runs."""

    def __init__(self, settings: Settings, graphs: Graphs | None = None) -> None:
        """Name the settings; the graphs are loaded when first needed, unless given."""
        self.settings = settings
        if graphs is not None:
            self.graphs = graphs
        self._deployment: Deployment | None = None
        self._pool: Pool | None = None
        self._publisher: Publisher | None = None
        self._redis: Redis | None = None
        self._interest: Interest | None = None
        self._loops: GraphLoops | None = None
        self._owner: Owner | None = None
        self._executions: Executions | None = None
        self.store: BaseStore | None = None
        self.turns = Turns()
        self.metrics = WorkerMetrics()
        self.presence = Presence(settings.database_url)
        self.companions: Companions | None = None
        self.ready = asyncio.Event()
        self._lock = asyncio.Lock()
        self._users = 0
        self._stack = AsyncExitStack()

    @cached_property
    def graphs(self) -> Graphs:  # pyright: ignore[reportRedeclaration]
        """The graphs of the configured langgraph.json."""
        return Graphs.load(self.settings.config, api_url=self.settings.reachable_url)

    @cached_property
    def terms(self) -> Terms:
        """What threads and runs are granted."""
        return terms_of(self.graphs.config, thread_ttl=self.settings.thread_ttl)

    @cached_property
    def dress(self) -> Dress:
        """What goes with every webhook."""
        require_domains(self.graphs.config, secrets=self.settings.webhook_secret)
        return dress_of(self.graphs.config, secrets=self.settings.webhook_secret)

    @property
    def deployment(self) -> Deployment:
        """Who the database is."""
        assert self._deployment is not None, "the worker is not running"
        return self._deployment

    @property
    def deployment_id(self) -> UUID | None:
        """The name of the deployment; None before the database was asked."""
        return self._deployment.deployment_id if self._deployment else None

    @property
    def pool(self) -> Pool:
        """The Postgres pool."""
        assert self._pool is not None, "the worker is not running"
        return self._pool

    @property
    def publisher(self) -> Publisher:
        """Where events go."""
        assert self._publisher is not None, "the worker is not running"
        return self._publisher

    @property
    def redis(self) -> "Redis":
        """The Valkey client."""
        assert self._redis is not None, "the worker is not running"
        return self._redis

    @property
    def interest(self) -> Interest:
        """Who watches threads by the protocol."""
        assert self._interest is not None, "the worker is not running"
        return self._interest

    @property
    def loops(self) -> GraphLoops:
        """Where graphs run."""
        assert self._loops is not None, "the worker is not running"
        return self._loops

    @property
    def owner(self) -> Owner:
        """The owner of the background parts."""
        assert self._owner is not None, "the worker is not running"
        return self._owner

    @property
    def executions(self) -> Executions:
        """The steps that this process executes."""
        assert self._executions is not None, "the worker is not running"
        return self._executions

    @property
    def failure(self) -> str | None:
        """Why nothing can be done here now; None if all is well."""
        if not self.ready.is_set():
            return "The worker has not opened what it needs."
        return None if self.owner.failure is None else str(self.owner.failure)

    def measured(self) -> bytes:
        """Say what the worker has counted, and what there is now, as Prometheus reads it."""
        if self.ready.is_set():
            self.metrics.read(loops=self.loops, publisher=self.publisher, pool=self.pool)
        return self.metrics.text()

    @asynccontextmanager
    async def opened(self, client: Callable[[], Client] | None = None) -> AsyncGenerator["Resources"]:
        """Open everything for as long as the block lasts. Blocks that overlap, of several workers, share it.

        Given what returns a worker's client, the process has a companion meanwhile.
        """
        async with self._lock:
            if not self._users:
                self._stack = await self._open(client)
            self._users += 1
        self.ready.set()
        try:
            yield self
        finally:
            async with self._lock:
                self._users -= 1
                if not self._users:
                    self.ready.clear()
                    await self._stack.aclose()

    async def _open(self, client: Callable[[], Client] | None) -> AsyncExitStack:
        settings = self.settings
        # A configuration that cannot be used shows before anything is opened.
        _ = self.terms, self.dress
        serde.use(self.graphs.config.checkpointer.serde_options)
        async with AsyncExitStack() as stack:
            owner = self._owner = Owner()
            self.presence = Presence(settings.database_url)
            await stack.enter_async_context(owner.keeping(self.turns.watch(), name="turns"))
            if client is not None:
                stack.callback(setattr, self, "companions", None)
                companions = self.companions = Companions(
                    client, worker=self.presence.worker, every=settings.heartbeat_interval
                )
                await stack.enter_async_context(owner.keeping(companions.run(), name="companion"))
            counting = self.terms.most_bytes is not None
            self._pool = await stack.enter_async_context(
                open_pool(settings.database_url, size=settings.pool_size, counting=counting)
            )
            await wait_for_database(self._pool, patience=settings.start_patience)
            async with connection(self._pool) as conn:
                self._deployment = await deployments.get(conn)
                await deployments.agree_on_keys(conn)
            await stack.enter_async_context(owner.keeping(self.presence.run(), name="presence"))
            stack.push_async_callback(self._let_go)
            redis = self._redis = connect(settings.redis_url)
            stack.push_async_callback(redis.aclose)
            self._interest = Interest(redis)
            await stack.enter_async_context(owner.keeping(self._interest.run(), name="interest"))
            self._publisher = await stack.enter_async_context(
                open_publisher(
                    redis,
                    owner,
                    max_events=settings.stream_max_events,
                    max_bytes=settings.stream_max_bytes,
                    ttl=settings.stream_ttl,
                )
            )
            self._loops = GraphLoops(patience=settings.loop_patience, threads=max(THREADS, settings.jobs_per_worker))
            stack.callback(self._loops.close)
            items = await stack.enter_async_context(
                open_store(self._pool, store_config_on(self.graphs, self._loops), counting=counting)
            )
            store = self.store = LoopStore(items, at_once=settings.pool_size // 2)
            await self._loops.run(lambda: self.graphs.check(store=store))
            await register(self._pool, self.graphs, await self._loops.run(lambda: names_of(self.graphs, store)))
            # From now on: heavy imports are for the start.
            await stack.enter_async_context(owner.keeping(self._loops.watch(), name="loop watch"))
            self._executions = Executions()
            stack.push_async_callback(self._executions.close)
            await self.presence.soon()
            return stack.pop_all()

    async def _let_go(self) -> None:
        with suppress(Unavailable):
            async with connection(self.pool) as conn:
                await let_go(conn, self.presence.worker)
