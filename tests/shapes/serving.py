"""Projects, served as their users would serve them."""

import asyncio
import shutil
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from durathread.db.migrate import upgrade
from durathread.embedded.engines import Engines
from tests.conftest import FAST, environment_of, own_database
from tests.embedded.processes import command_of
from tests.eventually import eventually
from tests.providers.endpoint import Endpoint, endpoint
from tests.roles.roles import Role, Roles
from tests.shapes.shape import Shape
from tests.stack import free_port

LATEST = "The worker is ready"


@dataclass
class Served:
    """A project that is served, and the models that it talks to."""

    shape: Shape
    endpoint: Endpoint
    folder: Path
    port: int
    roles: Roles
    worker: Role

    @property
    def url(self) -> str:
        """Where the API answers."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, headers: Mapping[str, str] | None = None) -> LangGraphClient:
        """Make a client, of the user whom the shape names."""
        return get_client(url=self.url, headers=headers or self.shape.headers)

    def log(self) -> str:
        """Read what all of them have written."""
        return "".join(role.text() for role in self.roles.started)

    async def crash(self) -> None:
        """Kill the worker, as a machine that is gone would; have another."""
        if self.shape.with_dev:
            [worker] = [each for each in psutil.Process(self.worker.running.pid).children() if _is_worker(each)]
            worker.kill()
        else:
            self.worker.running.kill()
            await self.worker.ended()
            self.worker = await self.roles.start("worker", "--config", "langgraph.json")


def _is_worker(process: psutil.Process) -> bool:
    return "worker" in command_of(process).split()


@asynccontextmanager
async def served(shape: Shape, engine_set: Engines, folder: Path) -> AsyncGenerator[Served]:
    """Serve a copy of a project for as long as the block lasts."""
    shutil.copytree(shape.folder, folder, dirs_exist_ok=True)
    port = free_port()
    with endpoint(shape.script) as models:
        roles = Roles({**_providers(folder, models, shape=shape), "DURATHREAD_PORT": str(port), **FAST}, folder)
        try:
            serving = _with_dev(roles, port) if shape.with_dev else _with_roles(roles, engine_set)
            async with serving as worker:
                await _answers(port)
                yield Served(shape, models, folder, port, roles, worker)
        finally:
            await asyncio.gather(*(role.stop() for role in roles.started))


@asynccontextmanager
async def _with_roles(roles: Roles, engine_set: Engines) -> AsyncGenerator[Role]:
    async with own_database(engine_set) as database_url:
        await asyncio.to_thread(upgrade, database_url)
        engines = {**environment_of(engine_set, queue=""), "DATABASE_URL": database_url}
        unset = ("DURATHREAD_CONFIG", "DURATHREAD_TASK_QUEUE")
        roles.environment = {
            **{name: value for name, value in engines.items() if name not in unset},
            **roles.environment,
        }
        _, worker = [await roles.start(name, "--config", "langgraph.json") for name in ("api", "worker")]
        await worker.says(LATEST)
        yield worker


@asynccontextmanager
async def _with_dev(roles: Roles, port: int) -> AsyncGenerator[Role]:
    dev = await roles.start("dev", "--port", str(port), "--ephemeral")
    await dev.says("Ctrl-C stops it")
    yield dev


def _providers(folder: Path, models: Endpoint, *, shape: Shape) -> dict[str, str]:
    """Say where the models are and what the keys are: in a .env, or as variables."""
    said = {
        "OPENAI_API_KEY": "sk-none",
        "OPENAI_BASE_URL": f"{models.url}/v1",
        "ANTHROPIC_API_KEY": "sk-ant-none",
        "ANTHROPIC_BASE_URL": models.url,
    }
    [example] = [*folder.rglob(".env.example")] or [None]
    if example is None or not shape.writes_env:
        return said
    names = [line.partition("=")[0] for line in example.read_text().splitlines() if "=" in line]
    lines = [f"{name}={said[name]}" for name in names if name in said]
    example.with_name(".env").write_text("\n".join(lines))
    return {}


async def _answers(port: int) -> None:
    async with httpx.AsyncClient() as http:

        async def ok() -> bool:
            try:
                return (await http.get(f"http://127.0.0.1:{port}/ok")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(ok, timeout=120, what="the API answers")
