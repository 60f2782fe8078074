"""The engines that docker-compose.yml describes, process by process: Debian's Postgres, Valkey, and Temporal in four."""

import asyncio
import shutil
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from durathread.embedded import folder as folders
from durathread.embedded.child import Child
from durathread.embedded.engines import Engines, start_together
from durathread.embedded.folder import Folder
from durathread.embedded.ports import free_port
from durathread.embedded.postgres import DATABASE, Postgres
from durathread.embedded.temporal import Temporal
from durathread.embedded.valkey import Valkey
from durathread.errors import EngineError
from tests.cluster import compose
from tests.cluster.build import Programs, programs

DEBIAN = Path("/usr/lib/postgresql")
# All that a password may hold by the comment in docker-compose.yml.
PASSWORD = "p@ss/w:rd#1%&?"
# That of Valkey is part of a URL.
SECRETS = {**dict.fromkeys(compose.PASSWORDS, PASSWORD), "VALKEY_PASSWORD": "valkey"}
SERVICES = ("frontend", "history", "matching", "worker")
# Seconds that Docker waits before it starts something again.
PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6)
SHELL_PATH = "/usr/local/bin:/usr/bin:/bin"


def find_postgres() -> Path:
    """Find the programs of the newest Postgres.

    Raises:
        EngineError: there is none.
    """
    versions = sorted(DEBIAN.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not versions:
        raise EngineError("Debian's Postgres is needed: apt-get install postgresql")
    return versions[-1].parent


class DebianPostgres(Postgres):
    """Postgres as Debian packages it, with the options that Compose gives it."""

    @property
    def programs(self) -> Path:
        """The folder of its programs."""
        return find_postgres()

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"postgresql://postgres:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{DATABASE}"

    def command(self) -> list[str]:
        """Return the command line."""
        _, *options = compose.services()["postgres"]["command"]
        here = ("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=")
        return [str(self.programs / "postgres"), "-D", str(self.data), "-p", str(self.port), *options, *here]

    async def _create(self) -> None:
        secret = self.folder.path / "postgres.password"
        secret.write_text(PASSWORD)
        self.data.mkdir(mode=0o700)
        self._give(self.data, secret)
        options = ("--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256")
        await self.run(str(self.programs / "initdb"), f"--pgdata={self.data}", f"--pwfile={secret}", *options)


class PlainValkey(Valkey):
    """Valkey with the options that Compose gives it."""

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"redis://:{SECRETS['VALKEY_PASSWORD']}@127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        """Return the command line."""
        program, *_ = super().command()
        _, *options = compose.services(SECRETS)["valkey"]["command"]
        return [program, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder.path), *options]

    async def prepare(self) -> None:
        """Nothing needs to be written."""

    async def ready(self) -> bool:
        """Say whether it answers."""
        with suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(f"AUTH {SECRETS['VALKEY_PASSWORD']}\r\nPING\r\n".encode())
                return await reader.readexactly(12) == b"+OK\r\n+PONG\r\n"
            finally:
                writer.close()
        return False


class Service(Child):
    """One service of Temporal in a process of its own: what the server's image starts, with what Compose gives it."""

    def __init__(self, folder: Folder, name: str, *, programs: Programs, variables: Mapping[str, str]) -> None:
        """Describe a service; nothing runs yet."""
        super().__init__(folder, f"temporal-{name}")
        self.label = f"Temporal's {name}"
        self.service = name.rstrip("0123456789")
        self._programs = programs
        self._variables = {**variables, "TEMPORAL_SERVICES": self.service}

    @property
    def port(self) -> int:
        """Where other services reach it."""
        return int(self._variables[f"{self.service.upper()}_GRPC_PORT"])

    def command(self) -> list[str]:
        """Return the command line. Debian's `sh` lacks an option that the image's has."""
        return ["bash", str(self._programs.entrypoint)]

    def environment(self) -> dict[str, str]:
        """Return its environment variables."""
        return {"PATH": f"{self._programs.folder}:{SHELL_PATH}", "HOME": str(self.folder.path), **self._variables}

    async def start(self) -> None:
        """Start it, again if need be: of those that find an empty database at once, all but one end."""
        for pause in (*PAUSES, None):
            try:
                return await super().start()
            except EngineError:
                if pause is None:
                    raise
                await asyncio.sleep(pause)

    async def ready(self) -> bool:
        """Say whether its port is open."""
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.close()
            return self.pid is not None
        return False


class Cluster(Temporal):
    """A Temporal server whose services are processes of their own. What is done to it is done to all of them."""

    label = "The Temporal cluster"
    patience = 120

    def __init__(self, folder: Folder, *, postgres: DebianPostgres, shards: int | None = None) -> None:
        """Describe a server; nothing runs yet."""
        super().__init__(folder, port=free_port(), ui_port=None, ephemeral=True)
        self.programs = programs()
        described: dict[str, str] = compose.services(SECRETS)["temporal"]["environment"]
        self._variables = {
            **described,
            **({"NUM_HISTORY_SHARDS": str(shards)} if shards else {}),
            "POSTGRES_SEEDS": "127.0.0.1",
            "DB_PORT": str(postgres.port),
            "BIND_ON_IP": "127.0.0.1",
            "DYNAMIC_CONFIG_FILE_PATH": str(compose.ROOT / "docker" / "temporal-dynamic-config.yaml"),
            "LOG_LEVEL": "warn",
            **{f"{name.upper()}_{kind}_PORT": str(free_port()) for name in SERVICES for kind in ("GRPC", "MEMBERSHIP")},
            "FRONTEND_GRPC_PORT": str(self.port),
            "FRONTEND_HTTP_PORT": str(self.http_port),
        }
        self.services = {name: self.service(name) for name in SERVICES}

    def service(self, name: str, **variables: str) -> Service:
        """Describe a service; `history2` is another of its kind, on ports of its own."""
        return Service(self.folder, name, programs=self.programs, variables={**self._variables, **variables})

    def second(self, kind: str) -> Service:
        """Describe a second process of a kind of service, which joins the first."""
        ports = {f"{kind.upper()}_{each}_PORT": str(free_port()) for each in ("GRPC", "MEMBERSHIP")}
        return self.service(
            f"{kind}2", **ports, **({"FRONTEND_HTTP_PORT": str(free_port())} if kind == "frontend" else {})
        )

    def command(self) -> list[str]:
        """It is not one process."""
        raise NotImplementedError

    async def open_ports(self) -> None:
        """Start the services all at once, and wait until their ports are open, as Compose does."""
        await start_together(*self.services.values(), on_ready=lambda _: None)

    async def start(self) -> None:
        """Start the services and wait until their namespace is served."""
        await self.open_ports()
        await self.until_ready()

    async def until_ready(self) -> None:
        """Wait until the namespace is served."""
        async with asyncio.timeout(self.patience):
            await self._poll()

    async def stop(self) -> None:
        """Stop the services."""
        await asyncio.gather(*(service.stop() for service in self.services.values()))

    @property
    def pid(self) -> int | None:
        """The frontend's."""
        return self.services["frontend"].pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal to each."""
        for service in self.services.values():
            service.send(number)

    async def wait(self) -> int:
        """Wait until all have ended."""
        return max(await asyncio.gather(*(service.wait() for service in self.services.values())))


class Job(Child):
    """A container of Compose that does something and ends; started again as often as Compose would if it fails."""

    def __init__(self, folder: Folder, name: str, command: list[str], *, variables: Mapping[str, str]) -> None:
        """Describe a job; nothing runs yet."""
        super().__init__(folder, name)
        self.label = name
        self.tries = 0
        self._command = command
        self._variables = variables

    def command(self) -> list[str]:
        """Return the command line."""
        return self._command

    def environment(self) -> dict[str, str]:
        """Return its environment variables."""
        return dict(self._variables)

    async def ready(self) -> bool:
        """Say whether it has done its work."""
        return self.pid is None and await self.wait() == 0

    async def done(self) -> None:
        """Run it to its end.

        Raises:
            EngineError: it failed each time.
        """
        retries = int(compose.services()[self.name]["restart"].removeprefix("on-failure:"))
        for pause in (*PAUSES[:retries], None):
            self.tries += 1
            try:
                return await self.start()
            except EngineError:
                if pause is None:
                    raise
                await asyncio.sleep(pause)


def script(engines: Engines, name: str) -> Job:
    """Describe a job that runs a script of docker/ in the image of Temporal's tools."""
    assert isinstance(engines.temporal, Cluster)
    service = compose.services(SECRETS)[name]
    shell, path = service["entrypoint"]
    variables = {
        "PATH": f"{engines.temporal.programs.folder}:{Path(sys.executable).parent}:{SHELL_PATH}",
        "HOME": str(engines.folder.path),
        **located(engines, service["environment"]),
    }
    return Job(engines.folder, name, [shell, f"{compose.ROOT}{path}"], variables=variables)


def role(engines: Engines, name: str, **variables: str) -> tuple[list[str], dict[str, str]]:
    """Return the command line and the environment of one of our containers, as Compose gives them."""
    service = compose.services(SECRETS)[name]
    program, *arguments = service["command"]
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    return command, {"PATH": SHELL_PATH, **located(engines, service["environment"]), **variables}


def located(engines: Engines, described: Mapping[str, Any]) -> dict[str, str]:
    """Put where the engines are in the place of their names in the network of Compose."""
    places = {
        "postgres:5432": f"127.0.0.1:{engines.postgres.port}",
        "valkey:6379": f"127.0.0.1:{engines.valkey.port}",
        "temporal:7233": engines.temporal_address,
    }
    found = {name: str(value) for name, value in described.items()}
    for name, place in places.items():
        found = {key: value.replace(name, place) for key, value in found.items()}
    if "PGHOST" in found:
        found |= {"PGHOST": "127.0.0.1", "PGPORT": str(engines.postgres.port)}
    if "POSTGRES_SEEDS" in found:
        found |= {"POSTGRES_SEEDS": "127.0.0.1", "DB_PORT": str(engines.postgres.port)}
    if "DURATHREAD_HOST" in found:
        found["DURATHREAD_HOST"] = "127.0.0.1"
    return found


@asynccontextmanager
async def cluster(data: Path, *, shards: int | None = None) -> AsyncGenerator[Engines]:
    """Start the engines in the order of Compose, and stop them at the end.

    Raises:
        EngineError: something of it is not installed, or does not work.
    """
    with folders.opened(data) as folder:
        postgres = DebianPostgres(folder, port=free_port(), ephemeral=True)
        temporal = Cluster(folder, postgres=postgres, shards=shards)
        found = Engines(folder, postgres, PlainValkey(folder, port=free_port()), temporal)
        try:
            await start_together(found.postgres, found.valkey, on_ready=lambda _: None)
            await script(found, "postgres-users").done()
            await script(found, "temporal-schema").done()
            await temporal.open_ports()
            await script(found, "temporal-namespace").done()
            command, variables = role(found, "migrate")
            await Job(folder, "migrate", command, variables=variables).done()
            await temporal.until_ready()
            yield found
        finally:
            temporal.kill()
            for engine in (found.valkey, found.postgres, temporal):
                await engine.stop()
        shutil.rmtree(folder.path, ignore_errors=True)
