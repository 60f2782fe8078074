"""Opens what the API process holds, and closes it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import structlog
from fastapi import FastAPI
from starlette.applications import Starlette
from temporalio.client import Client

from durathread.api.auth.handlers import Authority
from durathread.api.deps import Server, final_statuses
from durathread.api.http.in_process import in_process
from durathread.config.settings import Settings
from durathread.db import deployment as deployments
from durathread.db import serde, stored
from durathread.db.guarded_store import GuardedItems
from durathread.db.memory_store import LoopStore, open_store
from durathread.db.pool import connection, open_pool, wait_for_database
from durathread.deployment.belonging import Belonging
from durathread.deployment.upkeep import Upkeep
from durathread.errors import PartEnded
from durathread.graphs.embedding import store_config_on
from durathread.graphs.loops import GraphLoops
from durathread.graphs.registration import first_nodes_of, names_of, register
from durathread.graphs.registry import Graphs
from durathread.inprocess import clients
from durathread.inprocess.cross_loop import Bridge
from durathread.process.lifecycle import Owner
from durathread.runs.policies import terms_of
from durathread.startup.preflight import settled
from durathread.streams.hub import open_hub
from durathread.streams.presence import Watchers
from durathread.streams.publisher import open_publisher
from durathread.streams.valkey import connect as connect_valkey
from durathread.temporal.connection import connect

log = structlog.get_logger()

# In seconds. No user's code runs within the transactions of an API, which others wait for: all that a user starts, for one.
ABANDONED_AFTER = 15.0


@asynccontextmanager
async def open_server(
    settings: Settings,
    graphs: Graphs,
    *,
    owner: Owner,
    authority: Authority | None = None,
    temporal: Client | None = None,
) -> AsyncGenerator[Server]:
    """Connect to the engines and load the graphs, for as long as the block lasts.

    Args:
        settings: where the engines are.
        graphs: what is served.
        owner: of the background parts.
        authority: decides what callers may do; without one, everybody may do everything.
        temporal: a client of the running loop, if there is one.
    """
    serde.use(graphs.config.checkpointer.serde_options)
    terms = terms_of(graphs.config, thread_ttl=settings.thread_ttl)
    counting = terms.most_bytes is not None
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            open_pool(
                settings.database_url, size=settings.pool_size, counting=counting, abandoned_after=ABANDONED_AFTER
            )
        )
        await wait_for_database(pool, patience=settings.start_patience)
        async with connection(pool) as conn:
            deployment = await deployments.get(conn)
            await deployments.agree_on_keys(conn)
            if counting:
                await stored.doubt(conn)
        settings = settled(settings, deployment)
        redis = connect_valkey(settings.redis_url)
        stack.push_async_callback(redis.aclose)

        async def statuses(subjects: Collection[str]) -> dict[str, str | None]:
            return await final_statuses(pool, subjects)

        hub = await stack.enter_async_context(open_hub(redis, owner, statuses))
        publisher = await stack.enter_async_context(
            open_publisher(
                redis,
                owner,
                max_events=settings.stream_max_events,
                max_bytes=settings.stream_max_bytes,
                ttl=settings.stream_ttl,
            )
        )
        watchers = Watchers(redis)
        # No request waits for what another's graph does.
        loops = GraphLoops(patience=0)
        stack.callback(loops.close)
        await stack.enter_async_context(owner.keeping(loops.watch(), name="loop watch"))
        items = await stack.enter_async_context(open_store(pool, store_config_on(graphs, loops), counting=counting))
        await items.start_ttl_sweeper()
        store = LoopStore(items, at_once=settings.pool_size // 2)
        temporal = temporal or await connect(
            interceptors=[Belonging(lambda: deployment.deployment_id)], patience=settings.start_patience
        )
        await register(pool, graphs, await loops.run(lambda: names_of(graphs, store)))
        first_nodes = await loops.run(lambda: first_nodes_of(graphs, store))
        server = Server(
            settings, graphs, loops, first_nodes, pool, store, temporal, redis, hub, publisher, watchers, terms, owner
        )
        server.authority = authority
        server.guarded = GuardedItems(pool, items)
        await stack.enter_async_context(owner.keeping(watchers.run(), name="watchers"))
        upkeep = Upkeep(
            pool,
            temporal,
            task_queue=settings.task_queue,
            limits=server.limits,
            expiry=terms.expiry,
            every=settings.sweep_interval,
        )
        await stack.enter_async_context(owner.keeping(upkeep.run(), name="upkeep"))
        stack.push_async_callback(owner.close)
        yield server


def lifespan_of(
    settings: Settings,
    graphs: Graphs,
    *,
    on_failure: Callable[[PartEnded], object],
    authority: Authority | None = None,
    custom: Starlette | None = None,
):
    """Build the app's lifespan. That of the custom app is around it.

    Args:
        settings: where the engines are.
        graphs: what is served.
        on_failure: is told when a background part has ended: the app can do no more.
        authority: decides what callers may do.
        custom: the app that langgraph.json names.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[Mapping[str, Any]]:
        async with AsyncExitStack() as stack:
            state = await stack.enter_async_context(custom.router.lifespan_context(custom)) if custom else None
            owner = Owner()
            opening = open_server(settings, graphs, owner=owner, authority=authority)
            server = await stack.enter_async_context(opening)
            await stack.enter_async_context(_reported(owner, on_failure))
            app.state.server = server
            inside = Bridge(in_process(app))
            clients.serve(inside)
            stack.callback(clients.withdraw, inside)
            log.info("The API is ready", graphs=list(graphs))
            yield dict(state or {})

    return lifespan


@asynccontextmanager
async def _reported(owner: Owner, on_failure: Callable[[PartEnded], object]) -> AsyncGenerator[None]:
    """Report the end of a part."""

    async def report() -> None:
        on_failure(await owner.failed())

    task = asyncio.create_task(report(), name="report of a failure")
    try:
        yield
    finally:
        task.cancel()
