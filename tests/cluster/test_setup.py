"""What docker-compose.yml sets up, and that setting it up again changes nothing."""

import asyncio
import re
import subprocess
import sys

import psutil
import psycopg
import pytest
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, GetClusterInfoRequest
from temporalio.client import Client

from durathread.embedded.engines import Engines
from durathread.temporal.connection import SEARCH_ATTRIBUTES
from tests.cluster import compose
from tests.cluster.build import version
from tests.cluster.deployment import Deployment
from tests.cluster.engines import SERVICES, Cluster, script
from tests.cluster.report import REPORT

IDLE_SECONDS = 10


@pytest.fixture
def temporal_cluster(engine_set: Engines) -> Cluster:
    """The Temporal of the session, as four processes."""
    assert isinstance(engine_set.temporal, Cluster)
    return engine_set.temporal


async def test_temporal_is_four_processes_with_the_shards_of_compose(
    engine_set: Engines, temporal_cluster: Cluster
) -> None:
    pids = {service.pid for service in temporal_cluster.services.values()}
    assert len(pids - {None}) == len(SERVICES)
    client = await Client.connect(engine_set.temporal_address)
    cluster = await client.workflow_service.get_cluster_info(GetClusterInfoRequest())
    assert cluster.server_version == version()
    assert cluster.history_shard_count == 512
    assert (cluster.persistence_store, cluster.visibility_store) == ("postgres12", "postgres12")


async def test_the_namespace_and_its_search_attributes_are_there(engine_set: Engines) -> None:
    client = await Client.connect(engine_set.temporal_address)
    described = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="default"))
    assert described.config.workflow_execution_retention_ttl.ToTimedelta().days == 7
    request = ListSearchAttributesRequest(namespace="default")
    attributes = await client.operator_service.list_search_attributes(request)
    assert {key.name for key in SEARCH_ATTRIBUTES} <= set(attributes.custom_attributes)


@pytest.mark.parametrize("name", ["temporal-schema", "temporal-namespace"])
async def test_a_script_succeeds_at_once_and_changes_nothing_when_it_is_run_again(
    engine_set: Engines, name: str
) -> None:
    before = await schema(engine_set)
    again = script(engine_set, name)
    await again.done()
    assert again.tries == 1
    assert await schema(engine_set) == before


async def schema(engine_set: Engines) -> list[str]:
    """Read the versions of Temporal's two databases, and when they were reached."""
    found: list[str] = []
    for database in ("temporal", "temporal_visibility"):
        async with await psycopg.AsyncConnection.connect(engine_set.database_url, dbname=database) as conn:
            for table in ("schema_version", "schema_update_history"):
                rows = await (await conn.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3")).fetchall()  # pyright: ignore[reportArgumentType, reportCallIssue]
                found += [f"{database} {row}" for row in rows]
    return found


def test_the_image_of_the_server_reads_every_variable_that_it_is_given(temporal_cluster: Cluster) -> None:
    read = temporal_cluster.programs.template.read_text() + temporal_cluster.programs.entrypoint.read_text()
    given = set(compose.services()["temporal"]["environment"])
    assert {name for name in given if not re.search(rf"\b{name}\b", read)} == set()


def test_the_server_knows_every_key_of_our_dynamic_configuration(temporal_cluster: Cluster) -> None:
    path = compose.ROOT / "docker" / "temporal-dynamic-config.yaml"
    program = temporal_cluster.programs.folder / "temporal-server"
    checked = subprocess.run([program, "validate-dynamic-config", path], capture_output=True, text=True, check=True)
    assert "error" not in checked.stdout
    assert "warning" not in checked.stdout


async def test_the_healthcheck_of_an_api_finds_it_healthy(deployment: Deployment) -> None:
    _, _, *arguments = compose.services()["api"]["healthcheck"]["test"]
    here = [argument.replace("8123", str(deployment.stacks[0].port)) for argument in arguments]
    process = await asyncio.create_subprocess_exec(sys.executable, *here)
    assert await process.wait() == 0


async def test_a_deployment_without_work_leaves_the_machine_alone(
    deployment: Deployment, temporal_cluster: Cluster
) -> None:
    engines = deployment.engines
    groups: dict[str, list[int | None]] = {
        f"temporal {name}": [each.pid] for name, each in temporal_cluster.services.items()
    }
    groups["postgres"] = [engines.postgres.pid]
    groups["valkey"] = [engines.valkey.pid]
    groups["api (each)"] = [deployment.stacks[0].processes["api"].pid]
    groups["worker (each)"] = [deployment.stacks[0].processes["worker"].pid]
    before = {name: used(pids) for name, pids in groups.items()}
    # What is measured is a stretch of time.
    await asyncio.sleep(IDLE_SECONDS)
    for name, pids in groups.items():
        (seconds, _), (after, size) = before[name], used(pids)
        share = (after - seconds) / IDLE_SECONDS
        REPORT.add("Idle", f"{name:<20}{share:7.1%} of a core {size / 2**20:7.0f} MB")
        assert share < 0.5, name


def used(pids: list[int | None]) -> tuple[float, int]:
    """Sum the CPU seconds and the memory of processes and their children."""
    found = [psutil.Process(pid) for pid in pids if pid is not None]
    family = [member for process in found for member in (process, *process.children(recursive=True))]
    seconds = sum(member.cpu_times().user + member.cpu_times().system for member in family)
    return seconds, sum(member.memory_info().rss for member in family)
