"""The graphs' event loop: what blocks it is set aside, what has not begun moves on, and all of it can be cancelled."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
import structlog

from durathread.activities.loops import BEAT, PATIENCE, GraphLoops
from tests.eventually import eventually

# What a busy machine adds.
SLACK = 1.5


@pytest.fixture
async def loops() -> AsyncIterator[GraphLoops]:
    found = GraphLoops()
    watch = asyncio.create_task(found.watch())
    yield found
    watch.cancel()
    found.close()


class Blocker:
    """A node that blocks the loop that it runs on, until it is let go."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self._begun = threading.Event()
        self._gate = threading.Event()

    async def __call__(self) -> str:
        """Block."""
        self.thread = threading.current_thread()
        self._begun.set()
        self._gate.wait(20)
        return "blocked"

    def let_go(self) -> None:
        """Let it return."""
        self._gate.set()

    async def begun(self) -> None:
        """Wait until it blocks."""
        assert await asyncio.to_thread(self._begun.wait, 10)


async def where() -> threading.Thread:
    return threading.current_thread()


async def test_graphs_run_in_a_thread_of_their_own_and_on_one_loop(loops: GraphLoops) -> None:
    threads = [await loops.run(where) for _ in range(3)]
    assert len({thread.ident for thread in threads}) == 1
    assert threads[0] is not threading.current_thread()
    assert threads[0].daemon


async def test_an_exception_reaches_whoever_waits(loops: GraphLoops) -> None:
    async def fail() -> None:
        raise KeyError("boom")

    with pytest.raises(KeyError, match="boom"):
        await loops.run(fail)


async def test_a_blocked_loop_is_set_aside_and_new_work_goes_on(loops: GraphLoops) -> None:
    blocker = Blocker()
    blocked = loops.submit(blocker)
    await blocker.begun()
    clock = asyncio.get_running_loop()
    start = clock.time()
    with structlog.testing.capture_logs() as logs:
        # Offered to the loop that is blocked; it has not begun, so it moves.
        thread = await loops.run(where)
    assert clock.time() - start < PATIENCE + 2 * BEAT + SLACK
    assert thread is not blocker.thread
    [warning] = [log for log in logs if log["log_level"] == "warning"]
    assert warning["event"].startswith("A node blocks the event loop")
    assert "test_loops.py" in warning["at"]
    assert "__call__" in warning["at"]
    assert not blocked.outcome.done()
    blocker.let_go()
    assert await asyncio.wrap_future(blocked.outcome) == "blocked"


async def test_a_loop_that_was_set_aside_ends_when_its_work_has(loops: GraphLoops) -> None:
    blocker = Blocker()
    blocked = loops.submit(blocker)
    await blocker.begun()
    await loops.run(where)
    blocker.let_go()
    await asyncio.wrap_future(blocked.outcome)

    async def ended() -> bool:
        assert blocker.thread is not None
        return not blocker.thread.is_alive()

    await eventually(ended)


async def test_work_that_had_begun_stays_where_it_began(loops: GraphLoops) -> None:
    gate, blocker = asyncio.Event(), Blocker()
    begun = asyncio.Event()
    main = asyncio.get_running_loop()

    async def wait() -> tuple[threading.Thread, threading.Thread]:
        before = threading.current_thread()
        main.call_soon_threadsafe(begun.set)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(gate.wait(), main))
        return before, threading.current_thread()

    waiting = loops.submit(wait)
    await begun.wait()
    loops.submit(blocker)
    await blocker.begun()
    moved = await loops.run(where)
    gate.set()
    blocker.let_go()
    before, after = await asyncio.wrap_future(waiting.outcome)
    assert before is after is blocker.thread
    assert moved is not before


async def test_work_is_done_once_however_often_it_is_offered(loops: GraphLoops) -> None:
    blocker = Blocker()
    loops.submit(blocker)
    await blocker.begun()
    done: list[int] = []

    async def work(number: int) -> None:
        done.append(number)

    works = [loops.submit(lambda n=n: work(n)) for n in range(20)]
    await asyncio.gather(*(asyncio.wrap_future(item.outcome) for item in works))
    blocker.let_go()
    # The loop that was blocked still has its offers; after this it has looked at them.
    await loops.run(where)
    assert sorted(done) == list(range(20))


async def test_work_that_has_begun_is_cancelled_and_cleans_up(loops: GraphLoops) -> None:
    begun, cleaned = asyncio.Event(), threading.Event()
    main = asyncio.get_running_loop()

    async def wait() -> None:
        try:
            main.call_soon_threadsafe(begun.set)
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    work = loops.submit(wait)
    await begun.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wrap_future(work.outcome)
    assert cleaned.is_set()


async def test_work_that_has_not_begun_is_cancelled_at_once_and_never_begins(loops: GraphLoops) -> None:
    blocker, begun = Blocker(), threading.Event()
    loops.submit(blocker)
    await blocker.begun()

    async def work() -> None:
        begun.set()

    waiting = loops.submit(work)
    waiting.cancel()
    assert waiting.outcome.cancelled()
    blocker.let_go()
    await loops.run(where)
    assert not begun.is_set()


async def test_work_that_swallows_its_cancellation_keeps_its_result(loops: GraphLoops) -> None:
    begun = asyncio.Event()
    main = asyncio.get_running_loop()

    async def stubborn() -> str:
        main.call_soon_threadsafe(begun.set)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done all the same"
        return "never"

    work = loops.submit(stubborn)
    await begun.wait()
    work.cancel()
    assert await asyncio.wrap_future(work.outcome) == "done all the same"


async def test_work_that_is_cancelled_while_it_begins_does_not_hang(loops: GraphLoops) -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    for _ in range(50):
        work = loops.submit(wait)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.wrap_future(work.outcome), 30)
