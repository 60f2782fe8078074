"""What a worker says of itself to those who watch it."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from prometheus_client.parser import text_string_to_metric_families

from durathread.activities.resources import Resources
from durathread.config.settings import Settings
from durathread.embedded.engines import Engines
from durathread.errors import ConfigError
from durathread.process.monitoring import answering
from tests.api.serving import serving
from tests.eventually import eventually
from tests.stack import Stack, free_port
from tests.test_docs import rows_of

GRAPHS = """
import asyncio
import time
from pathlib import Path
from typing import Any, TypedDict

from langgraph.graph import START, StateGraph

HERE = Path(__file__).parent

while (HERE / "held").exists():
    (HERE / "imported.begun").touch()
    time.sleep(0.01)


class State(TypedDict, total=False):
    gate: str
    how: str


async def node(state: State) -> State:
    if state.get("how") == "fails":
        raise ValueError("It fails.")
    if gate := state.get("gate"):
        (HERE / (gate + ".begun")).touch()
        while not (HERE / gate).exists():
            if state.get("how") == "blocks":
                time.sleep(0.01)
            else:
                await asyncio.sleep(0.01)
    return {}


graph = StateGraph(State)
graph.add_node("node", node)
graph.add_edge(START, "node")


async def slow(config: dict[str, Any]):
    while not (HERE / "made").exists():
        (HERE / "made.begun").touch()
        await asyncio.sleep(0.01)
    return graph
"""
SAMPLE = tuple[str, dict[str, str], float]


class Watched:
    """A server whose worker is watched."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        """Take a server of a project in a folder."""
        self.stack = stack
        self.folder = folder
        self.address = stack.environment["DURATHREAD_METRICS_ADDRESS"]

    async def get(self, path: str, *, address: str = "") -> httpx.Response:
        """Ask the worker; an answer of 0 if it does not listen."""
        async with httpx.AsyncClient() as client:
            return await client.get(f"http://{address or self.address}{path}")

    async def ok(self) -> int:
        """Return the status of its health; 0 if it does not listen."""
        try:
            return (await self.get("/ok")).status_code
        except httpx.TransportError:
            return 0

    async def value(self, name: str, **labels: str) -> float:
        """Read a metric."""
        families = text_string_to_metric_families((await self.get("/metrics")).text)
        samples = [sample for family in families for sample in family.samples]
        return sum(each.value for each in samples if each.name == name and labels.items() <= each.labels.items())

    async def becomes(self, name: str, value: float, **labels: str) -> None:
        """Wait until a metric has a value."""

        async def does() -> bool:
            return await self.value(name, **labels) == value

        await eventually(does, what=f"{name} is {value}")

    async def begin(self, own: LangGraphClient, gate: str, how: str = "") -> tuple[str, str]:
        """Start a run, and wait until its node waits for a gate."""
        thread = await own.threads.create()
        run = await own.runs.create(thread["thread_id"], "graph", input={"gate": gate, "how": how})

        async def begun() -> bool:
            return (self.folder / f"{gate}.begun").exists()

        await eventually(begun)
        return thread["thread_id"], run["run_id"]

    def open(self, gate: str) -> None:
        """Let a node go on."""
        (self.folder / gate).touch()

    def close(self, gate: str) -> None:
        """Take a gate away."""
        (self.folder / gate).unlink()

    async def holds(self, mark: str) -> None:
        """Wait until users' code has left a mark."""

        async def there() -> bool:
            return (self.folder / mark).exists()

        await eventually(there, timeout=60, what=mark)


@pytest.fixture(scope="module")
async def watched(
    engine_set: Engines, database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Watched]:
    assert database
    folder = tmp_path_factory.mktemp("monitoring")
    address, other = (f"127.0.0.1:{free_port()}" for _ in range(2))
    variables: dict[str, Any] = {
        "DURATHREAD_METRICS_ADDRESS": address,
        "DURATHREAD_HEALTH_ADDRESS": address,
        "DURATHREAD_TEMPORAL_METRICS_ADDRESS": other,
    }
    named = {"graph": "./project_graphs.py:graph", "slow": "./project_graphs.py:slow"}
    (folder / "made").touch()
    async with serving(engine_set, folder, graphs=GRAPHS, named=named, **variables) as stack:
        found = Watched(stack, folder)
        # The API has its graphs; those of the worker wait for their gates: at their import, and when they are made.
        (folder / "made").unlink()
        (folder / "held").touch()
        await stack.start("worker")
        yield found


@pytest.fixture
async def own(watched: Watched) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=watched.stack.url) as client:
        yield client


async def test_a_worker_is_well_when_it_has_started(watched: Watched) -> None:
    async def answers() -> bool:
        assert watched.stack.processes["worker"].returncode is None, watched.stack.log("worker")
        return await watched.ok() != 0

    await eventually(answers, timeout=60)
    await watched.holds("imported.begun")
    refused = await watched.get("/ok")
    assert (refused.status_code, refused.json()["ok"]) == (503, False)
    watched.close("held")
    await watched.holds("made.begun")
    refused = await watched.get("/ok")
    assert (refused.status_code, refused.json()["ok"]) == (503, False)
    watched.open("made")

    async def well() -> bool:
        return await watched.ok() == 200

    await eventually(well, timeout=60)
    assert (await watched.get("/ok")).json() == {"ok": True}
    assert (await watched.get("/nothing")).status_code == 404


async def test_the_readme_lists_what_a_worker_measures(watched: Watched) -> None:
    said = {re.sub("`", "", row[0]): row[1] for row in rows_of("| metric of a worker | type | |")}
    shown = {
        family.name: family.type for family in text_string_to_metric_families((await watched.get("/metrics")).text)
    }
    assert {name: kind for name, kind in shown.items() if not name.endswith("_created")} == said


async def test_runs_and_their_steps_are_counted(watched: Watched, own: LangGraphClient) -> None:
    given: list[dict[str, Any]] = [{}, {}, {"how": "fails"}]
    for each in given:
        await own.runs.wait(None, "graph", input=each, raise_error=False)
    await watched.becomes("durathread_runs_ended_total", 2, status="success")
    await watched.becomes("durathread_runs_ended_total", 1, status="error")
    assert await watched.value("durathread_first_step_seconds_count") == 3
    assert 0 < await watched.value("durathread_first_step_seconds_sum") < 30
    assert await watched.value("durathread_step_seconds_count", graph="graph") >= 3
    assert await watched.value("durathread_steps_running") == 0
    assert await watched.value("durathread_steps_repeated_total") == 0
    assert await watched.value("durathread_pool_size") >= 1
    assert await watched.value("durathread_loops_running") == 1
    assert await watched.value("durathread_events_waiting") == 0


async def test_what_goes_on_is_shown(watched: Watched, own: LangGraphClient) -> None:
    thread_id, run_id = await watched.begin(own, "goes-on")
    assert await watched.value("durathread_steps_running") == 1
    await own.runs.cancel(thread_id, run_id, wait=True)
    await watched.becomes("durathread_runs_ended_total", 1, status="interrupted")
    await watched.becomes("durathread_steps_running", 0)


async def test_loops_that_are_blocked_are_counted(watched: Watched, own: LangGraphClient) -> None:
    thread_id, run_id = await watched.begin(own, "blocked", "blocks")
    await watched.becomes("durathread_loops_stalled", 1)
    assert await watched.value("durathread_loops_set_aside_total") == 1
    watched.open("blocked")
    await own.runs.join(thread_id, run_id)
    await watched.becomes("durathread_loops_stalled", 0)


async def test_writes_of_a_step_that_has_lost_its_run_are_counted(
    watched: Watched, own: LangGraphClient, database: str
) -> None:
    _, run_id = await watched.begin(own, "fenced")
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as conn:
        await conn.execute("UPDATE run SET attempt = attempt + 1 WHERE run_id = %s", (run_id,))
    watched.open("fenced")
    await watched.becomes("durathread_fenced_writes_total", 1)


async def test_steps_that_are_repeated_are_counted(watched: Watched, own: LangGraphClient) -> None:
    thread_id, run_id = await watched.begin(own, "repeated")
    await watched.stack.kill("worker")
    await watched.stack.start("worker")
    watched.open("repeated")
    await own.runs.join(thread_id, run_id)
    assert await watched.value("durathread_steps_repeated_total") >= 1


async def test_temporal_is_measured_at_an_address_of_its_own(watched: Watched) -> None:
    address = watched.stack.environment["DURATHREAD_TEMPORAL_METRICS_ADDRESS"]
    text = (await watched.get("/metrics", address=address)).text
    assert "temporal_worker_task_slots_available" in text


async def test_a_worker_that_has_lost_a_part_is_not_well(database: str, engine_set: Engines, watched: Watched) -> None:
    assert watched
    resources = Resources(
        Settings.model_validate(
            {
                "database_url": database,
                "redis_url": engine_set.redis_url,
                "config": watched.folder / "langgraph.json",
            }
        )
    )
    assert resources.failure
    async with resources.opened():
        assert resources.failure is None

        async def brief() -> None:
            return

        async with resources.owner.keeping(brief(), name="brief"):
            await resources.owner.failed()
        assert "'brief'" in (resources.failure or "")


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1", "127.0.0.1:99999", "192.0.2.1:80", "127.0.0.1:x"])
async def test_an_address_that_cannot_be_used_is_named(address: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(address)), answering({address: {}}):
        pass
