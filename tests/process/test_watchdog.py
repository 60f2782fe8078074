"""The watchdog of an event loop: it says where the loop is blocked, and when nothing is to be expected of it any more."""

import asyncio
import threading

import pytest
from structlog.testing import capture_logs

from durathread.process import watchdog
from durathread.process.watchdog import Watchdog
from tests.eventually import eventually


def blocks(begun: threading.Event, gate: threading.Event) -> None:
    """Block the loop that it is called on."""
    begun.set()
    gate.wait()


async def test_a_loop_that_is_blocked_is_named_with_its_line_given_up_and_well_when_it_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watchdog, "GIVEN_UP", 1.5)
    begun, gate, done = threading.Event(), threading.Event(), threading.Event()
    built: list[Watchdog] = []

    async def work() -> None:
        built.append(Watchdog())
        with built[0].watching():
            blocks(begun, gate)
            await asyncio.to_thread(done.wait)

    with capture_logs() as logs:
        thread = threading.Thread(target=asyncio.run, args=(work(),))
        thread.start()
        await asyncio.to_thread(begun.wait)
        [dog] = built

        async def given_up() -> bool:
            return dog.failure is not None

        await eventually(given_up)
        assert dog.failure is not None
        assert "test_watchdog.py" in dog.failure
        assert "in blocks" in dog.failure
        gate.set()

        async def well() -> bool:
            return dog.failure is None

        await eventually(well)
        done.set()
        await asyncio.to_thread(thread.join)
    assert [line["log_level"] for line in logs] == ["warning", "info"]
    assert "in blocks" in logs[0]["at"]


async def test_a_loop_that_turns_is_nothing_to_speak_of() -> None:
    dog = Watchdog()
    with capture_logs() as logs, dog.watching():
        await asyncio.sleep(4 * watchdog.BEAT)
        assert dog.failure is None
    assert logs == []
