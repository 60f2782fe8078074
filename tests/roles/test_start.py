"""What an operator meets first: roles that find their engines away, or not prepared for them."""

import asyncio
import json
import signal
import socket
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import psycopg
import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from durathread.config.settings import Settings
from durathread.db import schema
from durathread.db.migrate import upgrade
from durathread.errors import ConfigError, Unprepared
from durathread.startup.migration import steps
from durathread.startup.preflight import prepared
from durathread.temporal.namespace import NAMES, check, examine, register
from tests.eventually import eventually
from tests.roles.plain import PlainEngines
from tests.roles.roles import STOPPED, Role, Roles
from tests.stack import free_port

KEYWORD = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
TEXT = IndexedValueType.INDEXED_VALUE_TYPE_TEXT
AWAY = {
    "DATABASE_URL": ("postgresql://postgres@127.0.0.1:1/postgres", "Postgres cannot be used yet"),
    "TEMPORAL_ADDRESS": ("127.0.0.1:1", "Temporal cannot be reached yet"),
}

AWAITED = (
    ("api", "DATABASE_URL"),
    ("worker", "TEMPORAL_ADDRESS"),
    ("migrate", "DATABASE_URL"),
    ("migrate", "TEMPORAL_ADDRESS"),
)


@pytest.fixture
async def namespace(plain: PlainEngines, monkeypatch: pytest.MonkeyPatch) -> str:
    """A namespace that nobody has prepared, which this process is told to use."""
    name = f"ns-{uuid4().hex}"
    client = await Client.connect(plain.environment["TEMPORAL_ADDRESS"])
    kept = Duration()
    kept.FromTimedelta(timedelta(days=1))
    request = RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=kept)
    await client.workflow_service.register_namespace(request)
    monkeypatch.setenv("TEMPORAL_NAMESPACE", name)
    return name


@pytest.fixture
async def its_client(plain: PlainEngines, namespace: str) -> Client:
    return await Client.connect(plain.environment["TEMPORAL_ADDRESS"], namespace=namespace)


@pytest.fixture
def settings(roles: Roles, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of roles on an empty database, for this process."""
    for name, value in roles.environment.items():
        monkeypatch.setenv(name, value)
    return Settings()


@pytest.fixture
def migrated(settings: Settings) -> Settings:
    """The same, on a database that is migrated."""
    upgrade(settings.database_url)
    return settings


async def done(settings: Settings) -> list[str]:
    """Do what `migrate` does."""
    return [line async for line in steps(settings)]


async def add(client: Client, attributes: dict[str, Any]) -> None:
    """Register search attributes, as soon as the namespace is known everywhere."""

    async def added() -> bool:
        request = AddSearchAttributesRequest(namespace=client.namespace, search_attributes=attributes)
        try:
            await client.operator_service.add_search_attributes(request)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise
        return True

    await eventually(added)


async def test_migrate_prepares_a_fresh_database_and_namespace_and_says_so(
    roles: Roles, settings: Settings, namespace: str
) -> None:
    status, text = await roles.run("migrate", "--status", TEMPORAL_NAMESPACE=namespace)
    assert status == 1
    assert f"database      none, needed: {schema.HEAD}" in text
    assert all(f"{name:<13} missing, needed: Keyword" in text for name in NAMES)
    code, text = await roles.run("migrate", TEMPORAL_NAMESPACE=namespace)
    assert code == 0, text
    assert f"The database is at version {schema.HEAD}; it was at none.\n" in text
    assert f"Temporal's namespace '{namespace}' has got search attributes: {', '.join(NAMES)}.\n" in text
    assert "belongs to this database" in text
    assert f"Temporal's namespace '{namespace}' has its search attributes." in await done(settings)
    status, text = await roles.run("migrate", "--status", TEMPORAL_NAMESPACE=namespace)
    assert status == 0
    assert text.endswith("There is nothing to do.\n")


async def test_two_that_migrate_at_once_both_succeed(roles: Roles, namespace: str) -> None:
    both = [await roles.start("migrate", TEMPORAL_NAMESPACE=namespace) for _ in range(2)]
    assert [await role.ended() for role in both] == [0, 0], [role.text() for role in both]


async def test_a_role_on_a_database_that_is_not_migrated_says_what_to_do(roles: Roles, settings: Settings) -> None:
    code, text = await roles.run("worker")
    assert code == 1
    assert "run `durathread migrate`" in text
    assert "Traceback" not in text
    with pytest.raises(Unprepared, match="run `durathread migrate`"):
        await prepared(settings)


async def test_a_database_of_a_later_version_is_refused(settings: Settings) -> None:
    with psycopg.connect(settings.database_url, autocommit=True) as conn:
        conn.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
        conn.execute("INSERT INTO alembic_version VALUES ('9000')")
    for refused in (prepared(settings), done(settings), asyncio.to_thread(upgrade, settings.database_url)):
        with pytest.raises(Unprepared, match=f"at version 9000, and this durathread knows none after {schema.HEAD}"):
            await refused
    with psycopg.connect(settings.database_url) as conn:
        assert conn.execute("SELECT to_regclass('checkpoints')").fetchall() == [(None,)]


async def test_a_namespace_without_search_attributes_is_refused_with_the_commands(
    migrated: Settings, namespace: str
) -> None:
    with pytest.raises(Unprepared, match="Run `durathread migrate`") as refused:
        await prepared(migrated)
    for name in NAMES:
        create = f"temporal operator search-attribute create --namespace {namespace} --name {name} --type Keyword"
        assert f"{name}, of type Keyword, is missing: {create}" in str(refused.value)


async def test_a_search_attribute_of_another_type_is_named(migrated: Settings, its_client: Client) -> None:
    await add(its_client, {"GraphId": TEXT})
    for refused in (prepared(migrated), done(migrated)):
        with pytest.raises(Unprepared, match="GraphId is of type Text, and must be of type Keyword"):
            await refused


async def test_search_attributes_that_temporal_does_not_take_are_named_with_their_commands(
    roles: Roles, namespace: str, its_client: Client
) -> None:
    # A namespace has room for ten.
    await add(its_client, {f"Theirs{n}": KEYWORD for n in range(8)})
    code, text = await roles.run("migrate", TEMPORAL_NAMESPACE=namespace)
    assert code == 1
    assert "Temporal does not register them (" in text
    assert "--name ThreadId --type Keyword" in text
    assert "Traceback" not in text


class Cloud:
    """What a client is to us where nobody may register or list search attributes; all else is the real server."""

    def __init__(self, client: Client, *, status: RPCStatusCode, searching: bool) -> None:
        self.namespace = client.namespace
        self.service_client = client.service_client
        self.workflow_service = self if not searching else client.workflow_service
        self.operator_service = self
        self._status = status

    async def _refuse(self, _: object, **__: object) -> None:
        raise RPCError("Request unauthorized.", self._status, b"")

    add_search_attributes = list_search_attributes = count_workflow_executions = describe_namespace = _refuse


@pytest.mark.parametrize("status", [RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED])
async def test_where_nobody_may_register_the_commands_are_named(its_client: Client, status: RPCStatusCode) -> None:
    await searchable(its_client)
    cloud = cast(Client, Cloud(its_client, status=status, searching=True))
    for attempt in (register, check):
        with pytest.raises(Unprepared, match="tcld namespace search-attributes add --namespace ns-") as refused:
            await attempt(cloud)
        assert all(f"{name}, of type Keyword, is missing" in str(refused.value) for name in NAMES)
    await register(its_client)
    assert await register(cloud) == []
    await check(cloud)


async def test_where_nothing_may_be_asked_at_all_it_starts(its_client: Client) -> None:
    refused = Cloud(its_client, status=RPCStatusCode.PERMISSION_DENIED, searching=False)
    await check(cast(Client, refused))


async def test_a_namespace_that_is_not_there_is_named(migrated: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "nowhere")
    for refused in (prepared(migrated), done(migrated)):
        with pytest.raises(Unprepared, match="temporal operator namespace create --namespace nowhere"):
            await refused


async def test_roles_whose_engine_is_away_say_so_and_stop_at_once(roles: Roles, migrated: Settings) -> None:
    found = list[tuple[Role, str]]()
    for role, engine in AWAITED:
        address, words = AWAY[engine]
        variables = {"DATABASE_URL": migrated.database_url, engine: address}
        found.append((await roles.start(role, **variables), words))
    for (role, words), number in zip(found, [signal.SIGTERM, signal.SIGINT] * 2, strict=True):
        await role.says(words, times=2)
        assert await role.stop(number, within=20) in STOPPED
        lines = role.text().splitlines()
        first = next(n for n, line in enumerate(lines) if words in line)
        # One line a try, and the one that it stops.
        *tries, last = lines[first:]
        assert all(words in line and "refused" in line for line in tries)
        assert "Stopped before it has started" in last


async def test_a_role_whose_engine_does_not_answer_stops_at_once(roles: Roles, migrated: Settings) -> None:
    with ExitStack() as stack:
        found = list[tuple[Role, socket.socket]]()
        for engine, (address, _) in AWAY.items():
            mute = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = f"127.0.0.1:{mute.getsockname()[1]}"
            variables = {"DATABASE_URL": migrated.database_url, engine: address.replace("127.0.0.1:1", port)}
            found.append((await roles.start("worker", **variables), mute))
        for role, mute in found:
            with await somebody_connecting(mute):
                assert await role.stop(within=20) in STOPPED
            assert "Traceback" not in role.text()


async def test_a_role_gives_up_on_an_engine_that_stays_away(roles: Roles) -> None:
    code, text = await roles.run("api", DATABASE_URL=AWAY["DATABASE_URL"][0], DURATHREAD_START_PATIENCE="0")
    assert code == 1
    assert "Connection refused" in text
    assert "Traceback" not in text


async def test_roles_start_without_valkey_and_say_once_what_they_lack(
    roles: Roles, migrated: Settings, namespace: str
) -> None:
    _ = await done(migrated)
    away = {"REDIS_URL": "redis://127.0.0.1:1", "DURATHREAD_PORT": str(free_port()), "TEMPORAL_NAMESPACE": namespace}
    for started in [await roles.start(role, **away) for role in ("api", "worker")]:
        await started.says("is ready")
        assert started.text().count("Valkey cannot be reached") == 1
        assert started.text().count("This Temporal server is not configured for durathread") == 1
        assert await started.stop(within=30) in STOPPED
        assert "Traceback" not in started.text()


SLOW = {
    "import": "import time\nprint('now', flush=True)\ntime.sleep(60)\n",
    "factory": "import asyncio\nasync def graph(config):\n    print('now', flush=True)\n    await asyncio.sleep(60)\n",
    "lifespan": """
import asyncio
from contextlib import asynccontextmanager
from fastapi import FastAPI
from langgraph.graph import START, MessagesState, StateGraph

@asynccontextmanager
async def lifespan(app):
    print("now", flush=True)
    await asyncio.sleep(60)
    yield

app = FastAPI(lifespan=lifespan)
builder = StateGraph(MessagesState)
builder.add_node("a", lambda state: {})
builder.add_edge(START, "a")
graph = builder.compile()
""",
}
LOADED = {"import": ("api", "worker"), "factory": ("worker",), "lifespan": ("api",)}


async def test_a_role_that_loads_what_is_served_stops_at_once(
    roles: Roles, migrated: Settings, namespace: str, tmp_path: Path
) -> None:
    _ = await done(migrated)
    started = list[Role]()
    for kind, text in SLOW.items():
        folder = tmp_path / kind
        folder.mkdir()
        (folder / "slow.py").write_text(text)
        config = {"graphs": {"slow": "./slow.py:graph"}} | ({"http": {"app": "./slow.py:app"}} if "app" in text else {})
        (folder / "langgraph.json").write_text(json.dumps(config))
        variables = {"DURATHREAD_CONFIG": str(folder / "langgraph.json"), "TEMPORAL_NAMESPACE": namespace}
        for role in LOADED[kind]:
            started.append(await roles.start(role, **variables, DURATHREAD_PORT=str(free_port())))
    for role, number in zip(started, [signal.SIGTERM, signal.SIGINT] * 2, strict=True):
        await role.says("now")
        assert await role.stop(number, within=20) == 0
        assert "Stopped before it has started" in role.text()
        assert "Traceback" not in role.text()


@pytest.mark.parametrize("name", ["database_url", "redis_url"])
async def test_an_address_that_cannot_be_one_is_named_without_it(migrated: Settings, name: str) -> None:
    _ = await done(migrated)
    with pytest.raises(ConfigError, match=name.upper()) as refused:
        await prepared(migrated.model_copy(update={name: "no:secret@thing"}))
    assert "secret" not in str(refused.value)


async def somebody_connecting(mute: socket.socket) -> socket.socket:
    """Wait until somebody connects to what never answers."""
    mute.setblocking(False)

    async def connected() -> socket.socket | None:
        try:
            return mute.accept()[0]
        except BlockingIOError:
            return None

    found = await eventually(connected, timeout=60)
    assert found
    return found


async def searchable(client: Client) -> None:
    """Wait until a new namespace can be searched in."""

    async def known() -> bool:
        try:
            return bool(await examine(client))
        except RPCError:
            return False

    await eventually(known)
