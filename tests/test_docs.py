"""The documentation keeps its promises: every setting is in the README, and every method of the SDK, which has a route."""

import contextlib
import inspect
import itertools
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from starlette.routing import Match

from durathread.api.app import create_app
from durathread.config import langgraph_json
from durathread.config.http import Http
from durathread.config.settings import Settings
from durathread.graphs.registry import Graphs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SOURCES = "\n".join(
    path.read_text()
    for path in (ROOT / "worker.py", *(p for f in ("src", "api", "activities") for p in (ROOT / f).rglob("*.py")))
)
CLIENTS = ("assistants", "threads", "runs", "crons", "store")

UUID = "00000000-0000-7000-8000-000000000000"
ARGUMENTS: dict[str, Any] = {
    "thread_id": UUID,
    "assistant_id": UUID,
    "run_id": UUID,
    "cron_id": UUID,
    "graph_id": "agent",
    "namespace": ["a"],
    "namespace_prefix": ["a"],
    "prefix": ["a"],
    "key": "k",
    "value": {},
    "values": {},
    "metadata": {},
    "schedule": "* * * * *",
    "payloads": [{"assistant_id": "agent"}],
    "version": 1,
    "thread_ids": [UUID],
}
"""What the SDK's methods are called with, by name of the parameter."""

PROTOCOL_V2 = [("POST", f"/threads/{UUID}/commands"), ("POST", f"/threads/{UUID}/stream/events")]
"""What `threads.stream` sends: it opens a session, not a request."""


def sdk_methods(name: str) -> set[str]:
    """List the methods of one of the SDK's clients."""
    client = getattr(get_client(url="http://localhost"), name)
    return {method for method in dir(client) if not method.startswith("_") and callable(getattr(client, method))}


def listed(name: str) -> list[str]:
    """Read which methods of one of the SDK's clients the README lists."""
    section = README.partition("## The SDK's methods")[2].partition("\n## ")[0]
    row = re.search(rf"^\| `{name}` \| (.*) \|$", section, re.MULTILINE)
    assert row, f"README.md has no row for the SDK's client {name}"
    return re.findall(r"`(\w+)`", row[1])


def row_of(field: str) -> str:
    """Write the row that the README must have for a setting."""
    info = Settings.model_fields[field]
    names = ", ".join(f"`{name}`" for name in getattr(info.validation_alias, "choices", [info.validation_alias]))
    default = str(info.default)
    return f"| `{field}` | {names} | {f'`{default}`' if default else ''} | {info.description} |"


class Recorder(httpx.AsyncBaseTransport):
    """Notes the first request, and stops there."""

    class Sent(Exception):
        """The request was noted."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Note a request."""
        self.request = request.method, request.url.path
        raise self.Sent


async def requests_of(name: str, method: str) -> list[tuple[str, str]]:
    """Find out what a method of the SDK sends."""
    if (name, method) == ("threads", "stream"):
        return PROTOCOL_V2
    recorder = Recorder()
    client = LangGraphClient(httpx.AsyncClient(transport=recorder, base_url="http://localhost"))
    call = getattr(getattr(client, name), method)
    required = [p for p in inspect.signature(call).parameters.values() if p.default is p.empty]
    given = [ARGUMENTS[p.name] for p in required if p.kind is not p.KEYWORD_ONLY]
    named = {p.name: ARGUMENTS[p.name] for p in required if p.kind is p.KEYWORD_ONLY}
    with contextlib.suppress(Recorder.Sent):
        answer = call(*given, **named)
        async for _ in await answer if inspect.isawaitable(answer) else answer:
            break
    return [recorder.request]


APP = create_app(Settings(), Graphs({}, langgraph_json.LanggraphJson(), ROOT))  # pyright: ignore[reportCallIssue]


def routed(method: str, path: str) -> bool:
    """Say whether the API has a route for a request."""
    scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
    return any(route.matches(scope)[0] is Match.FULL for route in APP.router.routes)


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_has_its_row_in_the_readme(field: str) -> None:
    assert row_of(field) in README.splitlines()


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_is_read(field: str) -> None:
    own = (ROOT / "src/durathread/config/settings.py").read_text()
    assert re.search(rf"settings\.{field}\b", SOURCES) or re.search(rf"self\.{field}\b", own)


@pytest.mark.parametrize("name", CLIENTS)
def test_the_readme_lists_every_method_of_the_sdk(name: str) -> None:
    assert sorted(listed(name)) == sorted(sdk_methods(name))


@pytest.mark.parametrize(
    ("name", "method"), [(name, method) for name in CLIENTS for method in sorted(sdk_methods(name))]
)
async def test_what_a_method_sends_has_a_route(name: str, method: str) -> None:
    assert [request for request in await requests_of(name, method) if not routed(*request)] == []


def rows_of(heading: str) -> list[list[str]]:
    """Read the rows of the table of the README that has this heading."""
    lines = README[README.index(heading) :].splitlines()[2:]
    return [line.strip("| ").split(" | ") for line in itertools.takewhile(lambda line: line.startswith("|"), lines)]


def test_the_keys_of_langgraph_json_are_in_the_readme_with_what_becomes_of_them() -> None:
    said = {name: row[0] for row in rows_of("| | key | |") for name in re.findall(r"`([\w.]+)`", row[1])}
    assert said == langgraph_json.keys()


def test_the_keys_of_http_are_in_the_readme() -> None:
    said = [name for row in rows_of("| key of `http` | |") for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(said) == sorted(Http.model_fields)


def test_links_in_the_documentation_lead_somewhere() -> None:
    for page in (
        ROOT / "README.md",
        *ROOT.glob("docs/**/*.md"),
        ROOT / "CONTRIBUTING.md",
        ROOT / "benchmarks/README.md",
    ):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"


def test_files_that_the_documentation_names_are_there() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    ours = [f"/{name}" for name in listed]
    for page in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *ROOT.glob("docs/**/*.md"),
        ROOT / "benchmarks/README.md",
    ):
        for name in re.findall(r"`([\w/-]+\.(?:py|sql))`", page.read_text()):
            assert any(path.endswith(f"/{name}") for path in ours), f"{page.name} names {name}"


def test_every_difference_names_tests_that_there_are() -> None:
    """Rows that say no test do not count: each names one, or the benchmark."""
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    page = (ROOT / "docs" / "differences.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| There")]
    assert len(rows) > 30
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row.rsplit(" | ", 1)[-1])
        assert named or "`benchmarks/run.py`" in row, row
        for name in named:
            assert f"def {name}(" in sources, name


def test_decision_records_have_their_four_parts() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [page.name[:4] for page in pages] == [f"{n:04}" for n in range(1, len(pages) + 1)]
    for page in pages:
        headings = re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)
        assert {"Context", "Decision", "Consequences", "Alternatives"} <= set(headings), page.name
