"""Every method of the SDK's clients, asynchronous and synchronous, is called with every parameter that it has."""

from collections.abc import Awaitable, Callable

import pytest
from langgraph_sdk import get_client, get_sync_client

from tests.contract import of_assistants, of_crons, of_runs, of_store, of_threads
from tests.contract.calling import Caller, methods
from tests.stack import Stack

Scenario = Callable[[Caller], Awaitable[None]]

MODULES = {"assistants": of_assistants, "crons": of_crons, "threads": of_threads, "runs": of_runs, "store": of_store}
# `list` is a name of Python's.
NAMES = {"runs.list": "listed"}


def scenario_of(method: str) -> Scenario:
    """Find the function that calls a method.

    Raises:
        KeyError, AttributeError: nobody has written it: the SDK has a method that no test calls.
    """
    name, attribute = method.split(".")
    return getattr(MODULES[name], NAMES.get(method, attribute))


@pytest.mark.parametrize("method", methods())
async def test_a_method_keeps_its_promise(server: Stack, method: str) -> None:
    async with get_client(url=server.url) as client:
        call = Caller(client)
        await scenario_of(method)(call)
    assert call.called(method)
    assert call.missed(method) == set(), "parameters that no test gives"


@pytest.mark.parametrize("method", methods())
async def test_the_synchronous_client_sees_the_same(server: Stack, method: str) -> None:
    with get_sync_client(url=server.url) as client:
        call = Caller(client)
        await scenario_of(method)(call)
    assert call.called(method)
