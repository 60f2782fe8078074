"""`durathread dev`: the engines and the roles of the server, on one machine, under one command."""

import asyncio
import contextlib
import json
import signal
import tempfile
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from durathread.embedded import folder as folders
from durathread.embedded.child import Child
from durathread.embedded.engines import Engines, describe, running, start_together
from durathread.embedded.folder import Folder
from durathread.embedded.neighbourhood import closed, opens_to_all
from durathread.embedded.ports import free_port, is_free
from durathread.embedded.roles import Api, Check, Role, Worker, environment, own_environment
from durathread.embedded.supervisor import supervised
from durathread.embedded.temporal import Temporal
from durathread.embedded.terminal import Terminal
from durathread.errors import ConfigError, EngineError

OPEN = (
    "The API listens on {host} without auth: whoever reaches this machine may do everything that its graphs can. "
    'Add "auth" to langgraph.json, or leave --host away.'
)
TEMPORAL_PORT = 7233
UI_PORT = 8233


@dataclass(frozen=True)
class Options:
    """What `durathread dev` was asked for."""

    config: Path
    host: str
    port: int
    data: Path
    ephemeral: bool
    has_ui: bool = True


class Dev:
    """One run of `durathread dev`."""

    def __init__(self, options: Options) -> None:
        """Start nothing yet."""
        self.options = options
        self.terminal = Terminal()
        self.children: list[Child] = []
        self._since = time.monotonic()

    async def run(self) -> None:
        """Serve until Ctrl-C or SIGTERM, then stop everything in order. A second one ends everything at once.

        Raises:
            ConfigError: langgraph.json cannot be used.
            EngineError: something cannot start; says what and why.
        """
        check(self.options)
        serving = asyncio.create_task(self._serve())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # Under nohup, it is to go on when its terminal is closed.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(number, self._stop, serving)
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        self.terminal.say("Stopped.")

    def _stop(self, serving: asyncio.Task[None]) -> None:
        if serving.cancelling():
            self.terminal.say("Ending everything at once.", style="dim")
            for child in self.children:
                child.kill()
        else:
            self.terminal.say("Stopping; what runs is continued at the next start. Ctrl-C again ends it at once.")
            serving.cancel()

    async def _serve(self) -> None:
        with data_folder(self.options) as folder:
            await folder.stop_orphans()
            async with (
                self._engines(folder) as engines,
                self._roles(engines),
                supervised(self.children, say=lambda text: self.terminal.say(text, style="dim")),
            ):
                folder.publish(engines.environment)
                self._welcome(engines)
                await asyncio.Event().wait()

    @asynccontextmanager
    async def _engines(self, folder: Folder) -> AsyncGenerator[Engines]:
        engines = describe(
            folder,
            ephemeral=self.options.ephemeral,
            temporal_port=free_port(TEMPORAL_PORT),
            ui_port=free_port(UI_PORT) if self.options.has_ui else None,
        )
        looking = Check(engines, "check", terminal=self.terminal, variables=own_environment(self.options.config))
        self.children.append(looking)
        await looking.look()
        self.children.remove(looking)
        self._started(looking)
        self.children += [engines.postgres, engines.valkey, engines.temporal]
        async with running(engines, on_ready=self._started):
            self._name_ports(engines.temporal)
            yield engines

    def _name_ports(self, temporal: Temporal) -> None:
        """Say where what is not where people look for it first is."""
        for name, port, usual in (
            ("Temporal", temporal.port, TEMPORAL_PORT),
            ("Temporal UI", temporal.ui_port, UI_PORT),
        ):
            if port is not None and port != usual:
                self.terminal.say(f"Port {usual} is taken: {name} is on port {port}.")

    @asynccontextmanager
    async def _roles(self, engines: Engines) -> AsyncGenerator[None]:
        options = self.options
        variables = environment(engines, options.config, host=options.host, port=options.port)
        config = json.loads(options.config.read_text())
        variables = closed(variables, config, host=options.host)
        if opens_to_all(config, host=options.host):
            self.terminal.say(OPEN.format(host=options.host), style="red")
        migration = Role(engines, "migrate", terminal=self.terminal, variables=variables)
        api = Api(engines, "api", terminal=self.terminal, variables=variables)
        worker = Worker(engines, "worker", terminal=self.terminal, variables=variables)
        try:
            await start_together(migration, on_ready=self._started)
            self.children += [api, worker]
            await start_together(api, worker, on_ready=self._started)
            yield
        finally:
            for role in (migration, api, worker):
                await role.stop()

    def _started(self, child: Child) -> None:
        self.terminal.say(f"✓ {child.label:<14} {time.monotonic() - self._since:4.1f} s", style="dim")

    def _welcome(self, engines: Engines) -> None:
        host = {"127.0.0.1": "localhost", "0.0.0.0": "localhost"}.get(self.options.host, self.options.host)
        url = f"http://{f'[{host}]' if ':' in host else host}:{self.options.port}"
        ui = {"Temporal UI": engines.ui_url} if engines.ui_url else {}
        lines = {"API": url, "Docs": f"{url}/docs", **ui, "Data": self._data(engines)}
        self.terminal.say(f"\ndurathread is ready after {time.monotonic() - self._since:.1f} s.\n", style="green")
        for name, value in lines.items():
            self.terminal.say(f"  {name:<12} {value}")
        self.terminal.say("\nCtrl-C stops it.\n", style="dim")

    def _data(self, engines: Engines) -> str:
        return f"{engines.folder.path}{' (deleted at the end)' if self.options.ephemeral else ''}"


def check(options: Options) -> None:
    """Refuse what can be seen to fail before anything is started.

    Raises:
        ConfigError: langgraph.json is not there, or is not JSON.
        EngineError: the API's port is taken.
    """
    try:
        json.loads(options.config.read_text())
    except OSError as error:
        raise ConfigError(f"{options.config} cannot be read ({error.strerror}). Name yours with --config.") from None
    except ValueError as error:
        raise ConfigError(f"{options.config} is not JSON: {error}") from None
    if not is_free(options.port, host=options.host):
        raise EngineError(f"Port {options.port} on {options.host} is taken. Choose another with --port.")


@contextmanager
def data_folder(options: Options) -> Generator[Folder]:
    """Take the data folder, or a temporary one for ephemeral data.

    Raises:
        EngineError: another process has it.
    """
    with contextlib.ExitStack() as stack:
        path = options.data
        if options.ephemeral:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="durathread-")))
        yield stack.enter_context(folders.opened(path))
