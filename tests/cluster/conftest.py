"""The deployment that the tests of the cluster share, and their report."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from durathread.embedded.engines import Engines
from tests.chaos.ledger import Ledger
from tests.cluster.deployment import Deployment, deployed
from tests.cluster.load import Load, Probe
from tests.cluster.report import REPORT
from tests.receiver import receiving

CONFIG = Path(__file__).parent / "project" / "langgraph.json"


@pytest.fixture(scope="package")
async def deployment(engine_set: Engines, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    """Two APIs and two workers, as Compose has them."""
    async with deployed(engine_set, tmp_path_factory.mktemp("deployment"), config=CONFIG) as found:
        yield found


@pytest.fixture(scope="package")
async def load(deployment: Deployment) -> AsyncIterator[Load]:
    """Clients of it, and their book."""
    async with receiving() as receiver:
        yield Load(deployment, Ledger(), receiver, Probe(deployment.urls))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the report."""
    for heading, lines in REPORT.lines.items():
        terminalreporter.section(heading)
        for line in lines:
            terminalreporter.write_line(line)
