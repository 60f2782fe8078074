"""What the benchmarks measure with: processor time of process trees, tables and plots."""

import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[1]
# A child that works, and tells when it has.
BUSY = """
import subprocess, sys
work = "import time\\nwhile time.process_time() < 0.3: pass\\nprint('done', flush=True)\\ninput()"
child = subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE)
input()
child.communicate(b"\\n")
print("waited", flush=True)
input()
"""


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the benchmarks be imported as they import each other."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.mark.usefixtures("benchmark")
def test_processor_time_counts_children_alive_and_ended() -> None:
    processes: Any = __import__("processes")
    command = [sys.executable, "-c", BUSY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "done\n"
        alive = sum(processes.spent([process.pid]).values())
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "waited\n"
        ended = sum(processes.spent([process.pid]).values())
        process.communicate("\n")
    assert 250 <= alive <= ended
    assert processes.spent([process.pid]) == {}


@pytest.mark.usefixtures("benchmark")
def test_servers_are_named_with_their_processes_and_rounds_become_medians() -> None:
    compare: Any = __import__("compare")
    assert compare.server_of("ours=http://127.0.0.1:1,2,3") == compare.Server("ours", "http://127.0.0.1:1", (2, 3))
    found = compare.medians({"ours": [{"a": 1.0}, {"a": 5.0, "b": 2.0}, {"a": 2.0}], "Temporal alone": [{"a": 1.0}]})
    assert compare.table(found).splitlines() == [
        "| | ours | Temporal alone |",
        "|---|---|---|",
        "| a | 2.0 | 1.0 |",
        "| b | 2.0 |  |",
    ]


@pytest.mark.usefixtures("benchmark")
def test_the_plot_is_a_picture_with_a_curve_for_each_server() -> None:
    plot: Any = __import__("plot")
    root = ElementTree.fromstring(plot.svg({"ours": [(5, 100), (9, 400)], "<theirs>": [(8, 50)]}))
    names = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert (names.count("polyline"), names.count("circle")) == (2, 3)
