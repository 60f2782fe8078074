"""The threads of what is not async: others run, whatever was left behind."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from durathread.graphs.threads import Threads
from tests.eventually import eventually

SIZE = 3


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What calls wait for; opened at the end."""
    found = threading.Event()
    yield found
    found.set()


@pytest.fixture
def threads(gate: threading.Event) -> Iterator[Threads]:
    found = Threads(SIZE, name="tested")
    yield found
    gate.set()
    found.shutdown()


async def test_no_more_run_at_once_than_there_is_room_for(threads: Threads, gate: threading.Event) -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        gate.wait(20)
        return number

    loop = asyncio.get_running_loop()
    working = [loop.run_in_executor(threads, work, number) for number in range(2 * SIZE)]

    async def full() -> bool:
        return len(begun) == SIZE

    await eventually(full)
    gate.set()
    assert await asyncio.gather(*working) == list(range(2 * SIZE))
    assert begun[:SIZE] == list(range(SIZE))


async def test_calls_that_were_cancelled_and_go_on_take_no_room(threads: Threads, gate: threading.Event) -> None:
    begun = threading.Semaphore(0)

    def endless() -> None:
        begun.release()
        gate.wait(20)

    loop = asyncio.get_running_loop()
    for _ in range(4):
        stuck = [loop.run_in_executor(threads, endless) for _ in range(SIZE)]
        for _ in stuck:
            assert await asyncio.to_thread(begun.acquire, timeout=10)
        for each in stuck:
            each.cancel()

    async def left() -> bool:
        return threads.left_behind == 4 * SIZE

    await eventually(left)
    assert await asyncio.wait_for(loop.run_in_executor(threads, lambda: "done"), 10) == "done"
    gate.set()

    async def none_left() -> bool:
        return threads.left_behind == 0

    await eventually(none_left)


async def test_what_was_cancelled_before_it_began_never_runs(threads: Threads, gate: threading.Event) -> None:
    ran: list[str] = []
    loop = asyncio.get_running_loop()
    working = [loop.run_in_executor(threads, gate.wait, 20) for _ in range(SIZE)]
    waiting = threads.submit(ran.append, "cancelled")
    last = loop.run_in_executor(threads, ran.append, "last")
    assert waiting.cancel()
    gate.set()
    await asyncio.gather(*working)
    await last
    assert ran == ["last"]


async def test_what_a_call_raises_goes_to_its_caller(threads: Threads) -> None:
    def fail() -> None:
        raise KeyboardInterrupt("mine")

    with pytest.raises(KeyboardInterrupt, match="mine"):
        threads.submit(fail).result(10)
    assert threads.submit(lambda: 1).result(10) == 1


def test_threads_that_were_shut_down_take_no_more(gate: threading.Event) -> None:
    gate.set()
    threads = Threads(1, name="over")
    kept = [threads.submit(lambda: 1) for _ in range(5)]
    threads.shutdown()
    assert [each.result(0) for each in kept] == [1] * 5
    with pytest.raises(RuntimeError):
        threads.submit(lambda: 1)


def test_to_shut_down_may_cancel_what_waits() -> None:
    gate, threads = threading.Event(), Threads(1, name="over")
    running, waiting = threads.submit(gate.wait, 20), threads.submit(lambda: 1)
    closing = threading.Thread(target=threads.shutdown, kwargs={"cancel_futures": True})
    closing.start()
    with pytest.raises(CancelledError):
        waiting.result(10)
    gate.set()
    closing.join(10)
    assert running.result(10) is True
