"""What ends is started again, and a crash loop does not spin."""

import asyncio
import signal
import sys
import time
from pathlib import Path

import pytest

from durathread.embedded import folder as folders
from durathread.embedded import supervisor
from durathread.embedded.child import Child
from durathread.errors import EngineError
from tests.eventually import eventually

STEADY = "import time; time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


class Script(Child):
    """A stand-in: some Python, ready when it runs."""

    label = "The script"

    def __init__(self, folder: folders.Folder, script: str) -> None:
        super().__init__(folder, "script")
        self.script = script
        self.starts: list[float] = []

    def command(self) -> list[str]:
        self.starts.append(time.monotonic())
        return [sys.executable, "-c", self.script]

    async def ready(self) -> bool:
        return self.pid is not None


class Never(Script):
    """A stand-in that does not become ready."""

    async def ready(self) -> bool:
        return False


async def test_a_child_that_ends_is_started_again(tmp_path: Path) -> None:
    said: list[str] = []
    with folders.opened(tmp_path) as folder:
        child = Script(folder, STEADY)
        await child.start()
        first = child.pid
        async with supervisor.supervised([child], say=said.append):
            child.kill()

            async def back() -> bool:
                return child.pid not in (None, first)

            await eventually(back)
        assert said == ["The script ended (killed by SIGKILL); starting it again", "The script is back"]
        await child.stop()
        assert child.pid is None


async def test_a_crash_loop_slows_down(tmp_path: Path) -> None:
    said: list[str] = []
    with folders.opened(tmp_path) as folder:
        child = Script(folder, "raise SystemExit(3)")
        await child.start()
        async with supervisor.supervised([child], say=said.append):

            async def several() -> bool:
                return len(child.starts) == 4

            await eventually(several)
        await child.stop()
    gaps = [later - earlier for earlier, later in zip(child.starts, child.starts[1:], strict=False)]
    assert gaps[2] > gaps[0] + supervisor.FIRST_DELAY
    assert "The script ended (exit code 3); starting it again" in said


async def test_a_child_is_not_started_again_once_supervision_ends(tmp_path: Path) -> None:
    with folders.opened(tmp_path) as folder:
        child = Script(folder, STEADY)
        await child.start()
        async with supervisor.supervised([child], say=lambda _: None):
            pass
        child.kill()
        assert await child.wait() == -signal.SIGKILL
        await child.stop()
    assert len(child.starts) == 1


async def test_a_child_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    with folders.opened(tmp_path) as folder:
        child = Script(folder, STUBBORN)
        child.grace = 0.1
        await child.start()

        async def deaf() -> bool:
            return "deaf" in child.tail()

        await eventually(deaf)
        await child.stop()
        assert await child.wait() == -signal.SIGKILL


async def test_a_child_that_ends_before_it_is_ready_says_what_it_wrote(tmp_path: Path) -> None:
    with folders.opened(tmp_path) as folder:
        child = Never(folder, "raise SystemExit('no luck')")
        with pytest.raises(EngineError, match=r"The script did not start \(exit code 1\). It wrote:\nno luck"):
            await child.start()


async def test_a_child_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    with folders.opened(tmp_path) as folder:
        child = Never(folder, STEADY)
        child.patience = 0.2
        with pytest.raises(EngineError, match="was not ready after 0 s"):
            await child.start()
        assert child.pid is None


async def test_a_start_that_is_given_up_leaves_nothing_running(tmp_path: Path) -> None:
    with folders.opened(tmp_path) as folder:
        child = Never(folder, STEADY)
        starting = asyncio.create_task(child.start())

        async def spawned() -> bool:
            return bool(child.starts)

        await eventually(spawned)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await child.stop()
        assert child.pid is None
