"""The JavaScript packages that people use work against a server: every test of the .mjs files, run by Node."""

import asyncio
import json
import os
import re
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.stack import Stack

HERE = Path(__file__).parent
CURRENT = "@langchain/langgraph-sdk"
# Repeats a list in a query as one JSON array, as clients did until 1.9, and as npm's `latest` does.
JSON_QUERIES = "langgraph-sdk-json-queries"
REACT = ("react",)
NAME = re.compile(r'^test\("(.+?)", ', re.MULTILINE)
REFUSAL = re.compile(r'^  "(.+?)": \[\d+, ', re.MULTILINE)
SECONDS = 240

Failures = dict[str, str | None]
Outcome = Callable[[str, str], Awaitable[Failures]]


def names(file: Path) -> list[str]:
    """List the tests of a file."""
    text = file.read_text()
    return NAME.findall(text) + [
        f"{what} is refused with a sentence, and asked for once" for what in REFUSAL.findall(text)
    ]


FILES = sorted(HERE.glob("*.test.mjs"))
KINDS = {file.name: "react" if file.name.startswith(REACT) else "client" for file in FILES}
CASES = [
    pytest.param(sdk, file.name, name, id=f"{file.name.partition('.')[0]}-{sdk.rpartition('/')[2]}-{name}")
    for file in FILES
    for sdk in ((CURRENT,) if KINDS[file.name] == "react" else (CURRENT, JSON_QUERIES))
    for name in names(file)
]


async def node(url: str, sdk: str, files: list[str]) -> Failures:
    """Run files of tests with one of the packages, and return what failed by the name of the test; None passed."""
    found = shutil.which("node")
    assert found, "Node 20 or later is needed to test the JavaScript clients"
    assert (HERE / "node_modules").is_dir(), "make test installs the JavaScript packages"
    process = await asyncio.create_subprocess_exec(
        found, "--test-force-exit", f"--test-reporter={HERE / 'reporter.mjs'}", "all.mjs", *files,
        cwd=HERE, env={**os.environ, "DURATHREAD_URL": url, "DURATHREAD_SDK": sdk},
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
def outcome(server: Stack) -> Outcome:
    """Run every test of a kind with a package, once."""
    running: dict[tuple[str, str], asyncio.Task[Failures]] = {}

    async def run(sdk: str, kind: str) -> Failures:
        files = [name for name, other in KINDS.items() if other == kind]
        if (sdk, kind) not in running:
            running[sdk, kind] = asyncio.create_task(node(server.url, sdk, files))
        return await running[sdk, kind]

    return run


@pytest.mark.parametrize(("sdk", "file", "name"), CASES)
async def test_a_client_in_javascript(sdk: str, file: str, name: str, outcome: Outcome) -> None:
    failures = await outcome(sdk, KINDS[file])
    assert name in failures, "the test did not run"
    assert failures[name] is None, failures[name]
