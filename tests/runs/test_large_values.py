"""Large values of one user cost the others nothing but time."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
import psycopg

from durathread.embedded.engines import Engines
from tests.api.serving import serving
from tests.eventually import eventually

MB = 1024 * 1024
SLEEPERS = 20
GRAPHS = """
import asyncio
from pathlib import Path
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph

HERE = Path(__file__).parent


class State(TypedDict, total=False):
    name: str
    text: Any
    size: int


async def work(state: State) -> State:
    if "text" in state:
        return {"size": len(state["text"])}
    (HERE / f"{state['name']}.begun").touch()
    while not (HERE / "morning").exists():
        await asyncio.sleep(0.2)
    return {}


builder = StateGraph(State)
builder.add_node("work", work)
builder.add_edge(START, "work")
builder.add_edge("work", END)
"""


async def start(http: httpx.AsyncClient, given: dict[str, Any]) -> tuple[str, str]:
    """Start a run on a thread of its own, and return the ids of both."""
    body = orjson.dumps({"assistant_id": "graph", "input": given, "if_not_exists": "create"})
    thread = str(uuid4())

    async def accepted() -> str | None:
        answer = await http.post(f"/threads/{thread}/runs", content=body, headers={"content-type": "application/json"})
        # Temporal may be away for a moment where the machine is busy: then nothing is left of the run.
        assert answer.status_code in (200, 503), answer.text[:200]
        return answer.json()["run_id"] if answer.status_code == 200 else None

    return thread, await eventually(accepted, timeout=300) or ""


async def ended(http: httpx.AsyncClient, threads: Sequence[str]) -> bool:
    """Say whether the runs of threads have ended well. The answer to each question is small."""
    answers = [await http.get(f"/threads/{thread}/runs", params={"select": "status"}) for thread in threads]
    if {answer.status_code for answer in answers} != {200}:
        return False
    statuses = {run["status"] for answer in answers for run in answer.json()}
    assert statuses <= {"pending", "running", "success"}
    return statuses == {"success"}


def begun(folder: Path) -> list[Path]:
    """List the marks of the runs whose node is at work."""
    return list(folder.glob("*.begun"))


def attempts(database: str, run_ids: Sequence[str]) -> set[tuple[int, int]]:
    """Say how often steps of runs were repeated, and how many workers have died of them."""
    with psycopg.connect(database) as conn:
        rows = conn.execute(
            "SELECT retries, deaths FROM run WHERE run_id = ANY(%s)", ([UUID(run_id) for run_id in run_ids],)
        ).fetchall()
    assert len(rows) == len(run_ids)
    return set(rows)


async def test_two_inputs_of_sixty_megabytes_repeat_no_step_of_their_own_or_of_twenty_others(
    engine_set: Engines, database: str, tmp_path: Path
) -> None:
    limit = str(100 * MB)
    text, rows = "x" * (60 * MB), [{"n": n, "text": "lorem ipsum dolor sit amet " * 3} for n in range(600_000)]
    async with (
        serving(engine_set, tmp_path, graphs=GRAPHS, workers=1, HTTP_MAX_REQUEST_BODY_BYTES=limit) as stack,
        httpx.AsyncClient(base_url=stack.url, timeout=300) as http,
    ):
        small = await asyncio.gather(*(start(http, {"name": str(n)}) for n in range(SLEEPERS)))

        async def asleep() -> bool:
            return len(begun(tmp_path)) == SLEEPERS

        await eventually(asleep, timeout=60)
        creating = asyncio.gather(*(start(http, {"text": value}) for value in (text, rows)))
        while not creating.done():
            assert (await http.get("/ok")).status_code == 200
        large = await creating

        async def through() -> bool:
            return await ended(http, [thread for thread, _ in large])

        await eventually(through, timeout=300)
        (tmp_path / "morning").touch()

        async def awake() -> bool:
            return await ended(http, [thread for thread, _ in small])

        await eventually(awake, timeout=120)
    assert attempts(database, [run_id for _, run_id in (*small, *large)]) == {(0, 0)}
