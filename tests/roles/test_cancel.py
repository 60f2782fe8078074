"""A cancel on a Temporal server that does not push it: it comes with the answer to a heartbeat."""

from pathlib import Path
from uuid import uuid4

from langgraph_sdk import get_client

from tests.eventually import eventually
from tests.roles.roles import Roles
from tests.runs.support import entered, start
from tests.stack import free_port


async def test_a_cancel_that_nobody_pushes_reaches_its_node(roles: Roles, tmp_path: Path) -> None:
    port, thread_id = free_port(), str(uuid4())
    code, said = await roles.run("migrate")
    assert code == 0, said
    # The grace for the node is longer than anybody waits here.
    patient = {"DURATHREAD_CANCEL_GRACE": "100"}
    worker = await roles.start("worker", **patient)
    api = await roles.start("api", DURATHREAD_PORT=str(port), **patient)
    await worker.says("The worker is ready")
    await api.says("The API is ready")
    trace, ended = tmp_path / "b", tmp_path / "ended"
    async with get_client(url=f"http://127.0.0.1:{port}") as client:
        run = await start(client, thread_id, "in", do={"b": {"trace": str(trace), "sleep": 600, "ended": str(ended)}})
        await entered(trace)
        await client.runs.cancel(thread_id, run["run_id"], wait=True)

        async def stopped() -> bool:
            return ended.exists()

        await eventually(stopped)
        assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "interrupted"
