"""An ASGI app that may be called from any event loop."""

import asyncio
from contextvars import Context
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Bridge:
    """Runs an app on the event loop that the bridge was built on, whichever loop calls."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an app of the running event loop."""
        self._app = app
        self._home = asyncio.get_running_loop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request. A caller that is cancelled cancels it."""
        here = asyncio.get_running_loop()

        async def received() -> Message:
            return await _on(here, receive())

        async def sent(message: Message) -> None:
            await _on(here, send(message))

        await _on(self._home, self._app(scope, received, sent))


async def _on(loop: asyncio.AbstractEventLoop, work: Any) -> Any:
    """Await something on a loop, in a context of its own.

    In a node's context is the config of its run: a graph that the app opens would take it for its own.
    """
    return await asyncio.wrap_future(Context().run(asyncio.run_coroutine_threadsafe, _awaited(work), loop))


async def _awaited(work: Any) -> Any:
    return await work
