"""Users' code in the API: however long it takes, nobody else waits for it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from durathread.embedded.engines import Engines
from tests.api.serving import serving
from tests.eventually import eventually
from tests.stack import Stack

GRAPHS = '''
import asyncio
import time
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph

HERE = Path(__file__).parent


def add(old: list[str], new: list[str]) -> list[str]:
    """Block the thread that it is called on for as long as a file is there."""
    for name in new:
        if name.startswith("wait:"):
            (HERE / f"{name[5:]}.begun").touch()
            while (HERE / name[5:]).exists():
                time.sleep(0.01)
    return [*old, *new]


class State(TypedDict, total=False):
    log: Annotated[list[str], add]


async def node(state: State) -> State:
    return {"log": ["worked"]}


builder = StateGraph(State)
builder.add_node("node", node)
builder.add_edge(START, "node")
builder.add_edge("node", END)


async def slow(config: dict[str, Any]) -> Any:
    while (HERE / "factory").exists():
        await asyncio.sleep(0.01)
    return builder
'''
NAMED = {"graph": "./project_graphs.py:builder", "slow": "./project_graphs.py:slow"}
TIMEOUT = 2.0
# More than the server has connections.
MANY = 17


@pytest.fixture(scope="module")
async def project(engine_set: Engines, database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A server of two connections. No worker: runs stay pending."""
    assert database
    folder = tmp_path_factory.mktemp("users_code")
    async with serving(
        engine_set,
        folder,
        graphs=GRAPHS,
        named=NAMED,
        DURATHREAD_POOL_SIZE="2",
        # Nothing here takes so long: what is held up is let go.
        DURATHREAD_GRAPH_TIMEOUT="300",
    ) as stack:
        yield stack


@pytest.fixture
async def http(project: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it."""
    async with httpx.AsyncClient(base_url=project.url, timeout=60) as client:
        yield client


@asynccontextmanager
async def held(project: Stack, name: str) -> AsyncGenerator[Path]:
    """Hold users' code up for as long as the block lasts."""
    gate = project.logs.parent / name
    gate.touch()
    try:
        yield gate.with_name(f"{name}.begun")
    finally:
        gate.unlink(missing_ok=True)


async def thread_of(http: httpx.AsyncClient, graph: str = "graph") -> str:
    """Create a thread of a graph."""
    created = await http.post("/threads", json={"metadata": {"graph_id": graph}})
    return created.json()["thread_id"]


async def edited(http: httpx.AsyncClient, thread_id: str, *log: str) -> httpx.Response:
    """Write a state."""
    body = {"values": {"log": list(log)}, "as_node": "node"}
    return await http.post(f"/threads/{thread_id}/state", json=body)


async def log_of(http: httpx.AsyncClient, thread_id: str) -> Any:
    """Read a state."""
    return (await http.get(f"/threads/{thread_id}/state")).json()["values"].get("log", [])


async def unchanged(http: httpx.AsyncClient, thread_id: str) -> bool:
    """Whether a state is read, and says that nothing was written."""
    read = await http.get(f"/threads/{thread_id}/state")
    return read.status_code == 200 and not read.json()["values"]


async def answer(http: httpx.AsyncClient, *paths: str) -> None:
    """Fail if one of the paths has to wait for what is held up, and is so until they have answered."""
    for path in paths:
        assert (await http.get(path)).status_code == 200


async def begun(mark: Path) -> None:
    """Wait until users' code is at work."""

    async def there() -> bool:
        return await asyncio.to_thread(mark.exists)

    await eventually(there, what=mark.name)


async def test_a_reducer_that_blocks_holds_up_nobody_else(project: Stack, http: httpx.AsyncClient) -> None:
    thread_id, other = await thread_of(http), await thread_of(http)
    async with held(project, "blocks") as mark:
        editing = asyncio.create_task(edited(http, thread_id, "wait:blocks"))
        await begun(mark)
        await answer(http, "/ok", f"/threads/{thread_id}", f"/threads/{other}")
    assert (await editing).status_code == 200
    assert await log_of(http, thread_id) == ["wait:blocks"]


async def test_those_who_wait_for_a_slow_factory_hold_no_connection(project: Stack, http: httpx.AsyncClient) -> None:
    thread_ids = [await thread_of(http, "slow") for _ in range(MANY)]
    created = {"metadata": {"graph_id": "slow"}, "supersteps": [{"updates": [{"values": {}, "as_node": "node"}]}]}
    assistant = (await http.post("/assistants", json={"graph_id": "slow"})).json()["assistant_id"]
    async with held(project, "factory"):
        waiting = [
            *(asyncio.create_task(edited(http, thread_id, "x")) for thread_id in thread_ids),
            *(asyncio.create_task(http.get(f"/assistants/{assistant}/{part}")) for part in ("graph", "schemas")),
            asyncio.create_task(http.get(f"/assistants/{assistant}/subgraphs")),
            asyncio.create_task(http.get(f"/threads/{thread_ids[0]}/state")),
            asyncio.create_task(http.post(f"/threads/{thread_ids[0]}/history", json={})),
            asyncio.create_task(http.post("/threads", json=created)),
        ]
        await answer(http, "/ok", *(f"/threads/{thread_id}" for thread_id in thread_ids))
        assert not any(task.done() for task in waiting)
    assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}


async def test_an_edit_of_a_thread_that_becomes_busy_meanwhile_leaves_nothing(
    project: Stack, http: httpx.AsyncClient
) -> None:
    thread_id = await thread_of(http)
    async with held(project, "busy") as mark:
        editing = asyncio.create_task(edited(http, thread_id, "wait:busy"))
        await begun(mark)
        run = await http.post(f"/threads/{thread_id}/runs", json={"assistant_id": "graph", "input": {}})
        assert run.status_code == 200
    refused = await editing
    assert refused.status_code == 409
    assert (await http.get(f"/threads/{thread_id}/history")).json() == []
    assert (await http.get(f"/threads/{thread_id}")).json()["status"] == "busy"


async def test_edits_that_meet_all_count(http: httpx.AsyncClient) -> None:
    thread_id = await thread_of(http)
    names = [f"edit {n}" for n in range(12)]
    assert {each.status_code for each in await asyncio.gather(*(edited(http, thread_id, name) for name in names))} == {
        200
    }
    assert sorted(await log_of(http, thread_id)) == sorted(names)
    assert len((await http.get(f"/threads/{thread_id}/history?limit=100")).json()) == len(names)


async def test_code_that_takes_too_long_is_said_to(engine_set: Engines, database: str, tmp_path: Path) -> None:
    assert database
    async with (
        serving(engine_set, tmp_path, graphs=GRAPHS, DURATHREAD_GRAPH_TIMEOUT=str(TIMEOUT)) as hasty,
        httpx.AsyncClient(base_url=hasty.url, timeout=60) as http,
    ):
        thread_id = await thread_of(http)
        async with held(hasty, "too long") as mark:
            editing = asyncio.create_task(edited(http, thread_id, "wait:too long"))
            await begun(mark)
            late = await editing
            assert late.status_code == 504
            assert "2 seconds" in late.json()["detail"]
            # What is our fault is in the log, once, by the id that its client was told.
            [line] = [each for each in hasty.log("api").splitlines() if late.headers["x-request-id"] in each]
            assert f"/threads/{thread_id}/state" in line
            assert "504" in line
            # Not even now is the loop that it blocks in anybody's way. A slow machine may need longer than it is given.
            await eventually(lambda: unchanged(http, thread_id), what="a state that is read meanwhile")

        async def again() -> bool:
            return (await edited(http, thread_id, "again")).status_code == 200

        await eventually(again)
        assert await log_of(http, thread_id) == ["again"]
