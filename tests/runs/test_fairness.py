"""A newcomer's first step waits for one slot, not for the queue of somebody else."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from temporalio.client import Client
from temporalio.service import RPCError

from durathread.embedded.engines import Engines
from durathread.temporal import run_workflow_id
from tests.api.serving import serving
from tests.eventually import eventually
from tests.stack import Stack

SLOTS, SLEEPERS = 5, 60
GRAPHS = """
import asyncio
from pathlib import Path
from typing import TypedDict

from langgraph.graph import END, START, StateGraph

HERE = Path(__file__).parent


class State(TypedDict, total=False):
    name: str


async def sleep(state: State) -> State:
    (HERE / f"{state['name']}.begun").touch()
    while not (HERE / f"{state['name']}.over").exists() and not (HERE / "morning").exists():
        await asyncio.sleep(0.1)
    return {}


builder = StateGraph(State)
builder.add_node("sleep", sleep)
builder.add_edge(START, "sleep")
builder.add_edge("sleep", END)
"""
AUTH = """
from langgraph_sdk import Auth

auth = Auth()


@auth.authenticate
async def whose(headers: dict[bytes, bytes]) -> str:
    return headers[b"x-user"].decode()
"""


async def start(stack: Stack, user: str, name: str) -> str:
    """Start a run as a user, and return its id."""
    body: dict[str, Any] = {"assistant_id": "graph", "input": {"name": name}, "if_not_exists": "create"}
    async with httpx.AsyncClient(base_url=stack.url, timeout=60, headers={"x-user": user}) as http:
        answer = await http.post(f"/threads/{uuid4()}/runs", json=body)
    assert answer.status_code == 200
    return answer.json()["run_id"]


def begun(folder: Path) -> set[str]:
    """Name the runs whose step has begun."""
    return {path.stem for path in folder.glob("*.begun")}


async def test_one_run_beside_many_of_another_user_waits_for_one_slot(
    engine_set: Engines, database: str, temporal: Client, tmp_path: Path
) -> None:
    assert database
    auth = {"path": "./custom_app.py:auth"}
    async with serving(
        engine_set, tmp_path, graphs=GRAPHS, app=AUTH, auth=auth, workers=1, N_JOBS_PER_WORKER=str(SLOTS)
    ) as stack:
        for part in range(0, SLEEPERS, 20):
            await asyncio.gather(*(start(stack, "many", f"many{part + n}") for n in range(20)))

        async def full() -> bool:
            return len(begun(tmp_path)) == SLOTS

        await eventually(full, timeout=60)
        handle = temporal.get_workflow_handle(run_workflow_id(await start(stack, "one", "newcomer")))

        async def queued() -> bool:
            try:
                return bool((await handle.describe()).raw_description.pending_activities)
            except RPCError:
                return False

        await eventually(queued)
        first = begun(tmp_path)
        assert "newcomer" not in first
        # One after the other ends: the newcomer's step is among the next.
        for count, name in enumerate(sorted(first), start=1):
            (tmp_path / f"{name}.over").touch()

            async def another(count: int = count) -> bool:
                return len(begun(tmp_path)) >= SLOTS + count

            await eventually(another)
            if "newcomer" in begun(tmp_path):
                break
        assert "newcomer" in begun(tmp_path)
        # Some may have been on their way before its step was queued; most of the others still wait.
        assert len(begun(tmp_path)) <= 2 * SLOTS + 1
        (tmp_path / "morning").touch()
