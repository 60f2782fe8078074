"""A newcomer's first step waits for one slot, not for the queue of somebody else."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from durathread import RunRequest, start_run
from durathread.embedded.engines import Engines
from tests.api.serving import serving
from tests.eventually import eventually

SLOTS, SLEEPERS = 5, 20
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


async def start(http: httpx.AsyncClient, user: str, name: str, **options: Any) -> None:
    """Start a run as a user."""
    body: dict[str, Any] = {"assistant_id": "graph", "input": {"name": name}, "if_not_exists": "create", **options}
    answer = await http.post(f"/threads/{uuid4()}/runs", json=body, headers={"x-user": user})
    assert answer.status_code == 200


def begun(folder: Path) -> set[str]:
    """Name the runs whose step has begun."""
    return {path.stem for path in folder.glob("*.begun")}


def over(folder: Path) -> set[str]:
    """Name the runs that were let end."""
    return {path.stem for path in folder.glob("*.over")}


async def all_wait(client: Client, queue: str, folder: Path, *, started: int) -> None:
    """Wait until all slots are taken, and all other runs that were started wait for one."""
    asked = DescribeTaskQueueRequest(
        namespace="default",
        task_queue=TaskQueue(name=queue),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        include_task_queue_status=True,
    )

    async def wait() -> bool:
        # Of the only partition that is written to, and not as old as the statistics may be. A sweep may wait there too.
        answer = await client.workflow_service.describe_task_queue(asked)
        waiting = answer.task_queue_status.backlog_count_hint
        return len(begun(folder) - over(folder)) == SLOTS and waiting >= started - len(begun(folder))

    await eventually(wait, timeout=120)


async def end(folder: Path, name: str) -> None:
    """End a run, and wait until another has begun in its place."""
    before = begun(folder)
    (folder / f"{name}.over").touch()

    async def another() -> bool:
        return begun(folder) > before

    await eventually(another)


async def test_newcomers_beside_many_runs_of_another_user_wait_for_a_slot_or_two_each(
    engine_set: Engines, database: str, temporal: Client, tmp_path: Path
) -> None:
    assert database
    auth = {"path": "./custom_app.py:auth"}
    async with (
        serving(
            engine_set, tmp_path, graphs=GRAPHS, app=AUTH, auth=auth, workers=1, N_JOBS_PER_WORKER=str(SLOTS)
        ) as stack,
        httpx.AsyncClient(base_url=stack.url, timeout=60) as http,
    ):
        queue = stack.environment["DURATHREAD_TASK_QUEUE"]
        await asyncio.gather(*(start(http, "many", f"many{n}") for n in range(SLEEPERS)))
        await all_wait(temporal, queue, tmp_path, started=SLEEPERS)
        sleeping = begun(tmp_path)
        for started, user in enumerate(("one", "two", "three"), start=SLEEPERS + 1):
            await start(http, user, user)
            await all_wait(temporal, queue, tmp_path, started=started)
            assert user not in begun(tmp_path)
            await end(tmp_path, sleeping.pop())
            if user not in begun(tmp_path):
                # Each user has a place of his own in a round of all users: one of the others' runs may precede his.
                await end(tmp_path, sleeping.pop())
            assert user in begun(tmp_path)
            sleeping = begun(tmp_path) - over(tmp_path)
        (tmp_path / "morning").touch()


async def test_what_is_soon_over_goes_before_the_steps_that_wait(
    engine_set: Engines, database: str, temporal: Client, tmp_path: Path
) -> None:
    """A run that comes by a signal is admitted as soon as one slot is free, though all those that wait came first."""
    assert database
    async with (
        serving(
            engine_set, tmp_path, graphs=GRAPHS, workers=1, fairness={"key": "tenant"}, N_JOBS_PER_WORKER=str(SLOTS)
        ) as stack,
        httpx.AsyncClient(base_url=stack.url, timeout=60) as http,
    ):
        queue = stack.environment["DURATHREAD_TASK_QUEUE"]
        config = {"configurable": {"tenant": "everybody"}}
        await asyncio.gather(*(start(http, "", f"many{n}", config=config) for n in range(SLEEPERS)))
        await all_wait(temporal, queue, tmp_path, started=SLEEPERS)
        thread_id = str(uuid4())
        body = {"assistant_id": "graph", "input": {"name": "late"}, "config": config, "if_not_exists": "create"}
        request = RunRequest(
            run_id=str(uuid4()), thread_id=thread_id, assistant_id="graph", fairness="everybody", payload=body
        )
        await start_run(temporal, request, task_queue=queue)
        await all_wait(temporal, queue, tmp_path, started=SLEEPERS + 1)
        assert (await http.get(f"/threads/{thread_id}")).status_code == 404
        (tmp_path / f"{begun(tmp_path).pop()}.over").touch()

        async def admitted() -> bool:
            return (await http.get(f"/threads/{thread_id}")).status_code == 200

        await eventually(admitted)
        assert "late" not in begun(tmp_path)
        (tmp_path / "morning").touch()
