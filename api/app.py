"""The FastAPI application."""

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from durathread.api import (
    assistants,
    bulk,
    commands,
    crons,
    described,
    errors,
    event_socket,
    event_stream,
    metrics,
    runs,
    security,
    state,
    stateless,
    storage,
    store,
    system,
    thread_stream,
    threads,
)
from durathread.api.authentication import Authentication
from durathread.api.authority import Authority
from durathread.api.lifespan import lifespan_of
from durathread.api.middleware import BodyLimit, HeadRequests, JsonBodies
from durathread.graphs import Graphs
from durathread.settings import Settings

EXPOSED = ["content-location", "location", "x-pagination-total", "x-pagination-next", "x-request-id"]


def create_app(settings: Settings, graphs: Graphs) -> FastAPI:
    """Build the application that serves graphs."""
    authority = Authority.load(graphs)
    app = FastAPI(
        title="durathread",
        summary="LangGraph graphs over the LangGraph SDK's HTTP API, executed on Temporal.",
        version=system.VERSION,
        lifespan=lifespan_of(settings, graphs, authority),
        generate_unique_id_function=described.operation_id,
        responses={422: {"model": errors.Problem}, 503: {"model": errors.Problem}},
    )
    errors.register(app)
    app.include_router(system.router)
    app.include_router(metrics.router)
    app.include_router(assistants.router)
    app.include_router(threads.router)
    app.include_router(state.router)
    app.include_router(thread_stream.router)
    app.include_router(event_stream.router)
    app.include_router(event_socket.router)
    app.include_router(commands.router)
    app.include_router(storage.router)
    app.include_router(runs.router)
    app.include_router(bulk.router)
    app.include_router(stateless.router)
    if settings.crons_enabled:
        app.include_router(crons.router)
    app.include_router(store.router)
    if authority is not None:
        app.add_middleware(Authentication, authority=authority)
        security.describe(app, authority.openapi)
    app.add_middleware(JsonBodies)
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes)
    app.add_middleware(HeadRequests)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=[origin.strip() for origin in settings.cors_origins.split(",")],
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=EXPOSED,
        allow_private_network=True,
    )
    app.state.metrics = metrics.Metrics()
    app.add_middleware(metrics.MeteredRequests, metrics=app.state.metrics)
    return app
