"""What the tests of runs do again and again."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.schema import Run

from tests.eventually import eventually


async def start(client: LangGraphClient, thread_id: str, label: str, **kwargs: Any) -> Run:
    """Start a run of a → b → c; `do` says what its nodes do."""
    do = kwargs.pop("do", {})
    kwargs.setdefault("if_not_exists", "create")
    graph = kwargs.pop("graph", "agent")
    return await client.runs.create(thread_id, graph, input={"log": [label], "do": do}, **kwargs)


async def statuses(client: LangGraphClient, thread_id: str) -> list[str]:
    """List the statuses of a thread's runs, oldest first."""
    return [run["status"] for run in reversed(await client.runs.list(thread_id, limit=100))]


async def log_of(client: LangGraphClient, thread_id: str) -> list[str]:
    """Read the `log` of a thread's state."""
    state = await client.threads.get_state(thread_id)
    values: Any = state["values"]
    return values.get("log", [])


async def reached(client: LangGraphClient, thread_id: str, node: str) -> None:
    """Wait until a thread's next node is the one named: its run works on it, or is about to."""

    async def at() -> bool:
        return (await client.threads.get_state(thread_id))["next"] == [node]

    await eventually(at, what=f"next is {node}")


async def status_becomes(client: LangGraphClient, thread_id: str, status: str) -> None:
    """Wait for a thread's status."""

    async def is_it() -> bool:
        return (await client.threads.get(thread_id))["status"] == status

    await eventually(is_it, what=f"thread is {status}")


@asynccontextmanager
async def joining(url: str, thread_id: str, run_id: str) -> AsyncGenerator[httpx.Response]:
    """Join a run, and know that the server has found it: the body, to be read, is its outcome."""
    async with (
        httpx.AsyncClient(base_url=url, timeout=30) as http,
        http.stream("GET", f"/threads/{thread_id}/runs/{run_id}/join") as response,
    ):
        assert response.status_code == 200
        yield response


def lines(path: Path) -> list[str]:
    """Read a trace; none yet is no lines."""
    return path.read_text().splitlines() if path.exists() else []


async def entered(trace: Path, times: int = 1) -> None:
    """Wait until a node has left that many lines in its trace."""

    async def there() -> bool:
        return len(lines(trace)) >= times

    await eventually(there, what=f"{times} lines in {trace}")


def is_there(path: Path) -> bool:
    """Say whether a node has created a file."""
    return path.exists()
