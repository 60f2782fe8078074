"""`python -m tests.cluster`: build what is needed, and run the tests that are for the cluster, or that run on it too."""

import os
import sys

from durathread.errors import EngineError
from tests.cluster.build import build
from tests.cluster.compose import ROOT
from tests.cluster.engines import find_postgres

TESTS = (
    "tests/cluster",
    "tests/runs/test_double_texting.py",
    "tests/runs/test_races.py",
    "tests/runs/test_crashes.py",
    "tests/runs/test_outages.py",
)


def main() -> int:
    """Build, then become pytest; say what is missing."""
    try:
        find_postgres()
        build()
    except EngineError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    os.chdir(ROOT)
    os.environ["DURATHREAD_TEST_ENGINES"] = "cluster"
    arguments = sys.argv[1:]
    chosen = () if any(argument.startswith("tests/") for argument in arguments) else TESTS
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *chosen, *arguments])


if __name__ == "__main__":
    sys.exit(main())
