"""The companion of a worker, by itself."""

import os
import signal
import subprocess
import sys

import pytest

from durathread.companion.process import Frozen, death
from durathread.companion.wire import Begun
from tests.eventually import eventually

STOPPED = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
TRACED = "import ctypes; ctypes.CDLL(None).ptrace(0, 0, 0, 0); " + STOPPED


async def _state_is(pid: int, letter: str) -> None:
    async def so() -> bool:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: ASYNC230
            return stat.read().rpartition(")")[2].split()[0] == letter

    await eventually(so, what=f"state {letter}")


async def test_a_process_that_a_signal_has_stopped_is_frozen() -> None:
    with subprocess.Popen([sys.executable, "-c", STOPPED]) as process:  # noqa: ASYNC220
        await _state_is(process.pid, "T")
        assert Frozen(process.pid)()
        process.send_signal(signal.SIGCONT)
        process.wait()
        assert not Frozen(process.pid)()


async def test_a_process_that_a_debugger_holds_is_alive() -> None:
    with subprocess.Popen([sys.executable, "-c", TRACED]) as process:  # noqa: ASYNC220
        await _state_is(process.pid, "t")
        assert not Frozen(process.pid)()
        process.kill()


async def test_a_parent_that_has_died_before_it_was_looked_at_is_dead() -> None:
    assert os.getppid() != os.getpid()
    await death(os.getpid())


def test_it_imports_little() -> None:
    heavy = (
        "('langgraph', 'langchain_core', 'pydantic', 'psycopg', 'redis', 'fastapi', 'structlog', 'temporalio.client')"
    )
    code = f"import sys, durathread.companion.process; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("timeout", "every", "pause"), [(10, 1, 1), (60, 20, 20), (60, 30, 20), (1.5, 1, 0.5)])
def test_heartbeats_come_as_often_as_is_set_and_three_times_in_a_timeout(
    timeout: float, every: float, pause: float
) -> None:
    assert Begun(b"", "default", timeout, every).pause == pause
