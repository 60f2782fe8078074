"""The JavaScript packages that people use work against a server: every test of the .mjs files, run by Node."""

import asyncio
import json
import os
import re
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from durathread.embedded.engines import Engines
from tests.conftest import environment_of
from tests.stack import Stack, running

HERE = Path(__file__).parent
CURRENT = "@langchain/langgraph-sdk"
# Repeats a list in a query as one JSON array, as clients did until 1.9, and as npm's `latest` does.
JSON_QUERIES = "langgraph-sdk-json-queries"
PREFIXES = {"react": "react", "controller": "react", "crashes": "crash"}
NAME = re.compile(r'^ *test\("(.+?)", ', re.MULTILINE)
REFUSAL = re.compile(r'^  "(.+?)": \[\d+, ', re.MULTILINE)
SECONDS = 500

Failures = dict[str, str | None]
Outcome = Callable[[str, str], Awaitable[Failures]]


def names(file: Path) -> list[str]:
    """List the tests of a file."""
    text = file.read_text()
    return NAME.findall(text) + [
        f"{what} is refused with a sentence, and asked for once" for what in REFUSAL.findall(text)
    ]


def kind_of(name: str) -> str:
    """Say which tests a file's run with: all that work for pages, all that kill processes, and all others."""
    return next((kind for prefix, kind in PREFIXES.items() if name.startswith(prefix)), "client")


FILES = sorted(HERE.glob("*.test.mjs"))
KINDS = {file.name: kind_of(file.name) for file in FILES}
CASES = [
    pytest.param(sdk, file.name, name, id=f"{file.name.partition('.')[0]}-{sdk.rpartition('/')[2]}-{name}")
    for file in FILES
    for sdk in ((CURRENT, JSON_QUERIES) if KINDS[file.name] == "client" else (CURRENT,))
    for name in names(file)
]


async def node(url: str, sdk: str, files: list[str], **environment: str) -> Failures:
    """Run files of tests with one of the packages, and return what failed by the name of the test; None passed."""
    found = shutil.which("node")
    assert found, "Node 20 or later is needed to test the JavaScript clients"
    assert (HERE / "node_modules").is_dir(), "make test installs the JavaScript packages"
    process = await asyncio.create_subprocess_exec(
        found, "--test-force-exit", f"--test-reporter={HERE / 'reporter.mjs'}", "all.mjs", *files,
        cwd=HERE, env={**os.environ, **environment, "DURATHREAD_URL": url, "DURATHREAD_SDK": sdk},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(process.communicate(), SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
    ended = [json.loads(line) for line in out.decode().splitlines() if line.startswith("{")]
    assert ended, err.decode() or out.decode()
    return {each["name"]: each["failure"] for each in ended}


@pytest.fixture(scope="module")
def outcome(server: Stack, engine_set: Engines, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Run every test of a kind with a package, once."""
    started: dict[tuple[str, str], asyncio.Task[Failures]] = {}

    async def crashing(files: list[str]) -> Failures:
        logs = tmp_path_factory.mktemp("crashing")
        async with running(environment_of(engine_set, queue="crashing"), logs) as stack, crashes(stack) as port:
            return await node(stack.url, CURRENT, files, DURATHREAD_CRASHES=str(port))

    async def run(sdk: str, kind: str) -> Failures:
        files = [name for name, other in KINDS.items() if other == kind]
        if (sdk, kind) not in started:
            work = crashing(files) if kind == "crash" else node(server.url, sdk, files)
            started[sdk, kind] = asyncio.create_task(work)
        return await started[sdk, kind]

    return run


@asynccontextmanager
async def crashes(stack: Stack) -> AsyncGenerator[int]:
    """Listen on a port: kill the role whose name comes, start it again, and hang up."""

    async def crash(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        role = (await reader.read()).decode()
        await stack.kill(role)
        await stack.start(role)
        writer.close()

    async with await asyncio.start_server(crash, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]


@pytest.mark.parametrize(("sdk", "file", "name"), CASES)
async def test_a_client_in_javascript(sdk: str, file: str, name: str, outcome: Outcome) -> None:
    failures = await outcome(sdk, KINDS[file])
    assert name in failures, "the test did not run"
    assert failures[name] is None, failures[name]
