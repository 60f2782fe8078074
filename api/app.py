"""The FastAPI application."""

from collections.abc import Callable

import structlog
from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware
from starlette.types import Scope

from durathread.api.auth.authentication import Authentication, is_public
from durathread.api.auth.handlers import Authority
from durathread.api.http import error_answers
from durathread.api.http.cors import cors_middleware
from durathread.api.http.custom_app import Chosen, Custom, Switch, custom_app, is_custom
from durathread.api.http.entrance import Entrance, Located, MountPrefix
from durathread.api.http.middleware import BodyLimit, HeadRequests, JsonBodies, Stopping
from durathread.api.http.origins import ForeignPages, Hosts, NoSniffing
from durathread.api.lifespan import lifespan_of
from durathread.api.openapi import described, security
from durathread.api.openapi.description import describe
from durathread.api.protocol import commands, event_socket, event_stream
from durathread.api.routes import (
    assistants,
    crons,
    metrics,
    run_batches,
    runs,
    state,
    stateless_runs,
    store,
    system,
    thread_size,
    threads,
)
from durathread.api.services.request_headers import Forwarding, RequestIds
from durathread.api.streaming import thread_stream
from durathread.config.http import Http, http_config
from durathread.config.settings import Settings
from durathread.errors import PartEnded
from durathread.graphs.registry import Graphs
from durathread.webhooks.policy import require_domains

log = structlog.get_logger()


def _ignore(_: PartEnded) -> None:
    """Do nothing: `/ok` says it."""


def create_app(settings: Settings, graphs: Graphs, *, on_failure: Callable[[PartEnded], object] = _ignore) -> FastAPI:
    """Build the application that serves graphs, with the custom app that langgraph.json may name.

    Args:
        settings: where the engines are.
        graphs: what is served.
        on_failure: is told when a background part of the app has ended: the process is to be restarted.

    Raises:
        ConfigError: the `http` of langgraph.json cannot be used, or its `webhooks` would give secrets away.
    """
    http = http_config(graphs.config.http, settings)
    require_domains(graphs.config, secrets=settings.webhook_secret)
    authority, theirs = Authority.load(graphs), custom_app(graphs, http)
    app = create_routes(settings, http)
    app.router.lifespan_context = lifespan_of(
        settings, graphs, on_failure=on_failure, authority=authority, custom=theirs
    )
    custom = Custom(theirs, app) if theirs else None
    if custom:
        app.exception_handlers |= custom.exception_handlers
    if authority and theirs and not http.enable_custom_route_auth:
        log.warning(
            "Routes of http.app are open to everybody, although there is auth: see http.enable_custom_route_auth",
            paths=sorted({str(path) for route in theirs.routes if (path := getattr(route, "path", None)) is not None}),
        )
    if authority:
        security.describe(app, authority.openapi)
    describe(app, theirs)
    auth = _authentication(authority, http, settings)
    app.add_middleware(Entrance, outside=_layers(http, auth, custom, hosts=settings.allowed_hosts), inside=auth)
    app.add_middleware(metrics.MeteredRequests, metrics=app.state.metrics)
    return app


def create_routes(settings: Settings, http: Http) -> FastAPI:
    """Build the application without what only requests from outside pass through, and without a lifespan."""
    app = FastAPI(
        title="durathread",
        summary="LangGraph graphs over the LangGraph SDK's HTTP API, executed on Temporal.",
        version=system.VERSION,
        openapi_url="/openapi.json" if not http.disable_meta else None,
        generate_unique_id_function=described.operation_id,
        responses={422: {"model": error_answers.Problem}, 503: {"model": error_answers.Problem}},
    )
    app.state.metrics = metrics.Metrics()
    app.state.cors = http.cors
    error_answers.register(app)
    for router in _routers(http, settings):
        app.include_router(router)
    # Outermost last.
    app.add_middleware(Forwarding, rule=http.configurable_headers)
    app.add_middleware(RequestIds)
    app.add_middleware(JsonBodies)
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes)
    app.add_middleware(HeadRequests)
    app.add_middleware(Located)
    return app


def _routers(http: Http, settings: Settings) -> list[APIRouter]:
    """List the routers that are not disabled."""
    families = [
        ([system.health], not http.disable_meta),
        ([system.router, metrics.router], http.disable_meta),
        ([assistants.router], http.disable_assistants),
        ([threads.router, state.router, thread_stream.router, thread_size.router], http.disable_threads),
        (
            [event_stream.router, event_socket.router, commands.router],
            http.disable_threads or http.disable_event_streaming,
        ),
        ([runs.router, run_batches.router, stateless_runs.router], http.disable_runs),
        ([crons.router], http.disable_runs or not settings.crons_enabled),
        ([store.router], http.disable_store),
    ]
    return [router for routers, disabled in families if not disabled for router in routers]


def _authentication(authority: Authority | None, http: Http, settings: Settings) -> list[Middleware]:
    def exempt(scope: Scope) -> bool:
        return not http.enable_custom_route_auth if is_custom(scope) else is_public(scope)

    if authority is None:
        return []
    # Who authenticates may read the body.
    limit = Middleware(BodyLimit, limit=settings.max_body_bytes)
    return [limit, Middleware(Authentication, authority=authority, recheck=settings.auth_recheck, exempt=exempt)]


def _layers(http: Http, auth: list[Middleware], custom: Custom | None, *, hosts: str) -> list[Middleware]:
    """List what a request from outside passes through before our routes, outermost first."""
    ours = [cors_middleware(http.cors), Middleware(ForeignPages, cors=http.cors), *auth]
    theirs = custom.middleware if custom else []
    order = [*ours, *theirs] if http.middleware_order == "auth_first" else [*theirs, *ours]
    return [
        Middleware(Hosts, names=hosts),
        Middleware(NoSniffing),
        Middleware(MountPrefix, prefix=http.mount_prefix),
        Middleware(RequestIds),
        *([Middleware(Chosen, custom)] if custom else []),
        *order,
        Middleware(Stopping),
        *([Middleware(Switch, custom)] if custom else []),
    ]
