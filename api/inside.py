"""The API for clients of its own process: it answers them without authentication."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp
from temporalio.client import Client

from durathread.api.app import create_routes
from durathread.api.http.error_answers import problem
from durathread.api.http.in_process import in_process
from durathread.api.lifespan import open_server
from durathread.config.http import http_config
from durathread.config.settings import Settings
from durathread.graphs.registry import Graphs
from durathread.inprocess.cross_loop import Bridge
from durathread.process.lifecycle import Owner


@asynccontextmanager
async def opened(settings: Settings, graphs: Graphs, *, owner: Owner, temporal: Client) -> AsyncGenerator[ASGIApp]:
    """Open the API on the running loop for as long as the block lasts; what is yielded may be called from any loop."""
    async with open_server(settings, graphs, owner=owner, temporal=temporal) as server:
        app = create_routes(settings, http_config(graphs.config.http, settings))
        app.state.server = server
        yield Bridge(in_process(app))


def away() -> ASGIApp:
    """Return what answers while the API cannot be opened."""
    return problem(503, "Service Unavailable")
