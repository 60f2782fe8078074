"""One way to call the SDK's asynchronous and synchronous clients, which notes what was called with which parameters."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Any

from langgraph_sdk.client import LangGraphClient, SyncLangGraphClient

CLIENTS = ("assistants", "threads", "runs", "crons", "store")
# What every method takes for the HTTP request itself.
OF_THE_REQUEST = {"headers", "params"}

Client = LangGraphClient | SyncLangGraphClient


class Caller:
    """Calls methods by name, such as `threads.create`."""

    def __init__(self, client: Client) -> None:
        """Take a client of either kind."""
        self.client = client
        self._given: dict[str, set[str]] = {}

    async def __call__(self, method: str, *args: Any, first: int | None = None, **kwargs: Any) -> Any:
        """Call a method and return what it returns; of a stream all parts, or the `first` so many."""
        call = self._bound(method)
        bound = inspect.signature(call).bind(*args, **kwargs)
        self._given.setdefault(method, set()).update(bound.arguments)
        if isinstance(self.client, LangGraphClient):
            answer = call(*args, **kwargs)
            found = await answer if inspect.isawaitable(answer) else answer
            return await _collected(found, first) if hasattr(found, "__aiter__") else found

        def work() -> Any:
            found = call(*args, **kwargs)
            return list(islice(found, first)) if isinstance(found, Iterator) else found

        return await asyncio.to_thread(work)

    def missed(self, method: str) -> set[str]:
        """Name the parameters of a method that no call has given; all of them if it was not called."""
        known = set(inspect.signature(self._bound(method)).parameters)
        return known - OF_THE_REQUEST - self._given.get(method, set())

    def called(self, method: str) -> bool:
        """Say whether a method was called."""
        return method in self._given

    def _bound(self, method: str) -> Any:
        name, attribute = method.split(".")
        return getattr(getattr(self.client, name), attribute)


def methods() -> list[str]:
    """List every public method of the SDK's clients."""
    client = LangGraphClient(None)  # pyright: ignore[reportArgumentType]
    found: list[str] = []
    for name in CLIENTS:
        part = getattr(client, name)
        found += [f"{name}.{each}" for each in dir(part) if not each.startswith("_") and callable(getattr(part, each))]
    return found


async def _collected(stream: AsyncIterator[Any], first: int | None) -> list[Any]:
    parts: list[Any] = []
    async for part in stream:
        parts.append(part)
        if first is not None and len(parts) == first:
            break
    return parts
