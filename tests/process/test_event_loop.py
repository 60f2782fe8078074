"""What a process leaves behind when its work is over."""

import asyncio

import pytest

from durathread.process.event_loop import run


async def never() -> None:
    """Do not end, whoever asks."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue


def test_a_task_that_cannot_be_cancelled_does_not_hold_its_process(capsys: pytest.CaptureFixture[str]) -> None:
    tasks: list[asyncio.Task[None]] = []

    async def work() -> str:
        tasks.append(asyncio.create_task(never()))
        await asyncio.sleep(0)
        return "done"

    assert run(work(), parting=0.1) == "done"
    assert not tasks[0].done()
    assert "never" in capsys.readouterr().out


def test_a_task_that_is_left_is_cancelled_before_its_process_ends() -> None:
    tasks: list[asyncio.Task[bool]] = []

    async def work() -> None:
        tasks.append(asyncio.create_task(asyncio.Event().wait()))
        await asyncio.sleep(0)

    run(work())
    assert tasks[0].cancelled()
    assert tasks[0].get_loop().is_closed()
