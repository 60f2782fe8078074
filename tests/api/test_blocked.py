"""Users' code that blocks the event loop of the API: an `Auth` handler, or an app of theirs."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from durathread.embedded.engines import Engines
from tests.api.serving import serving
from tests.eventually import eventually
from tests.stack import Stack, free_port

APP = '''
import time
from pathlib import Path

from fastapi import FastAPI
from langgraph_sdk import Auth

HERE = Path(__file__).parent
app, auth = FastAPI(), Auth()


def block(name: str) -> None:
    """Block for as long as a file is there."""
    while (HERE / name).exists():
        (HERE / f"{name}.begun").touch()
        time.sleep(0.01)


@auth.authenticate
async def whose(headers: dict[bytes, bytes]) -> str:
    block("handler")
    return "somebody"


@app.get("/own")
async def own() -> dict[str, str]:
    block("app")
    return {"own": "page"}
'''


@pytest.fixture(scope="module")
async def blockable(
    engine_set: Engines, database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    """A server that says at an address of its own how it is."""
    assert database
    folder = tmp_path_factory.mktemp("blocked")
    async with serving(
        engine_set,
        folder,
        app=APP,
        auth={"path": "./custom_app.py:auth"},
        http={"app": "./custom_app.py:app"},
        DURATHREAD_API_HEALTH_ADDRESS=f"127.0.0.1:{free_port()}",
    ) as stack:
        yield stack


def told(stack: Stack) -> list[str]:
    """List the lines of the log that name the code which blocks."""
    lines = [line for line in stack.log("api").splitlines() if "is blocked" in line]
    return [line for line in lines if "custom_app.py" in line and "in block" in line]


@pytest.mark.parametrize(("gate", "path"), [("handler", "/assistants/search"), ("app", "/own")])
async def test_code_that_blocks_the_api_is_named_and_its_health_is_still_told(
    blockable: Stack, gate: str, path: str
) -> None:
    folder: Path = blockable.logs.parent
    health = f"http://{blockable.environment['DURATHREAD_API_HEALTH_ADDRESS']}/ok"
    async with httpx.AsyncClient(base_url=blockable.url, timeout=60) as http:
        assert (await http.get(health)).json() == {"ok": True}
        before = len(told(blockable))
        (folder / gate).touch()
        asked = asyncio.create_task(http.request("GET" if gate == "app" else "POST", path, json={}))

        async def named() -> bool:
            assert (await http.get(health)).status_code == 200
            return len(told(blockable)) > before

        await eventually(named)
        (folder / gate).unlink()
        assert (await asked).status_code == 200
        assert (await http.get("/ok")).json()["ok"] is True
