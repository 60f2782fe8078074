"""The graphs' event loop: others go on while a node blocks it, nothing ends it, and all that runs on it can be cancelled."""

import asyncio
import ctypes
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import structlog

from durathread.errors import LoopEnded
from durathread.graphs.loops import BEAT, STALLED, GraphLoop, GraphLoops, Raised, UsersLoop
from tests.eventually import eventually

# What a busy machine adds.
SLACK = 1.5


@pytest.fixture
async def loops() -> AsyncIterator[GraphLoops]:
    found = GraphLoops()
    watch = asyncio.create_task(found.watch())
    yield found
    watch.cancel()
    await asyncio.wait([watch])
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


async def test_other_graphs_go_on_elsewhere_while_a_node_blocks_the_loop(loops: GraphLoops) -> None:
    blocker = Blocker()
    blocked = loops.submit(blocker, graph_id="blocking", run_id="r1")
    await blocker.begun()
    clock = asyncio.get_running_loop()
    start = clock.time()
    with structlog.testing.capture_logs() as logs:
        # Offered to the loop that is blocked; it has not begun, so it moves.
        thread = await loops.run(where, graph_id="other")
    assert clock.time() - start < STALLED + 2 * BEAT + SLACK
    assert thread is not blocker.thread
    [warning] = [log for log in logs if log["log_level"] == "warning"]
    assert warning["event"].startswith("A node blocks the event loop")
    assert "test_loops.py" in warning["at"]
    assert "__call__" in warning["at"]
    assert warning["graph_id"] == "blocking"
    assert warning["run_id"] == "r1"
    assert not blocked.outcome.done()
    blocker.let_go()
    assert await asyncio.wrap_future(blocked.outcome) == "blocked"


async def test_the_loop_is_the_loop_again_at_once_when_it_turns(loops: GraphLoops) -> None:
    home = await loops.run(where)
    blocker = Blocker()
    blocked = loops.submit(blocker, graph_id="blocking")
    await blocker.begun()
    spare = await loops.run(where, graph_id="other")
    assert spare is not home
    blocker.let_go()
    await asyncio.wrap_future(blocked.outcome)
    assert [await loops.run(where, graph_id=graph_id) for graph_id in ("blocking", "other", "")] == [home] * 3

    async def ended() -> bool:
        return not spare.is_alive() and loops.running == 1

    await eventually(ended)


async def test_work_of_the_graph_that_blocks_the_loop_waits_for_it(loops: GraphLoops) -> None:
    blocker = Blocker()
    loops.submit(blocker, graph_id="blocking")
    await blocker.begun()
    same, other = loops.submit(where, graph_id="blocking"), loops.submit(where, graph_id="other")
    nobodys = loops.submit(where)
    assert await asyncio.wrap_future(other.outcome) is not blocker.thread
    assert not same.begun
    assert not nobodys.begun
    blocker.let_go()
    assert await asyncio.wrap_future(same.outcome) is blocker.thread
    assert await asyncio.wrap_future(nobodys.outcome) is blocker.thread


async def test_work_waits_for_its_loop_no_longer_than_it_may() -> None:
    loops = GraphLoops(patience=2)
    watch = asyncio.create_task(loops.watch())
    blocker, stubborn = Blocker(), Blocker()
    loops.submit(blocker, graph_id="blocking")
    await blocker.begun()
    loops.submit(stubborn, graph_id="blocking")
    await stubborn.begun()
    assert stubborn.thread is not blocker.thread
    # By now it has waited long enough, whoever comes; and the next loop is blocked by the same graph.
    third = await loops.run(where, graph_id="blocking")
    assert third not in (blocker.thread, stubborn.thread)
    stubborn.let_go()
    blocker.let_go()
    watch.cancel()
    await asyncio.wait([watch])
    loops.close()


async def test_nothing_stays_open_of_the_loops_that_stood_in(loops: GraphLoops) -> None:
    await loops.run(where)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        blocker = Blocker()
        blocked = loops.submit(blocker, graph_id="blocking")
        await blocker.begun()
        await loops.run(where, graph_id="other")
        blocker.let_go()
        await asyncio.wrap_future(blocked.outcome)

    async def closed() -> bool:
        return loops.running == 1 and len(os.listdir("/proc/self/fd")) <= before

    await eventually(closed)


async def exit_from_a_task(error: BaseException) -> None:
    """Raise where LangGraph runs nodes: in a task of its own."""

    async def node() -> None:
        raise error

    await asyncio.create_task(node())


async def exit_from_a_thread(error: BaseException) -> None:
    """Raise where LangGraph runs plain functions."""

    def node() -> None:
        raise error

    await asyncio.to_thread(node)


async def exit_at_once(error: BaseException) -> None:
    """Raise where reducers run."""
    raise error


class Odd(BaseException):
    """No ordinary exception."""


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit(), Odd()]
)
@pytest.mark.parametrize("leave", [exit_from_a_task, exit_from_a_thread, exit_at_once])
async def test_code_that_would_end_the_process_fails_alone(
    loops: GraphLoops, error: BaseException, leave: Callable[[BaseException], Coroutine[Any, Any, None]]
) -> None:
    home, gate = await loops.run(where), asyncio.Event()
    main = asyncio.get_running_loop()

    async def neighbour() -> threading.Thread:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(gate.wait(), main))
        return threading.current_thread()

    other = loops.submit(neighbour)
    with pytest.raises((Raised, RuntimeError)) as raised:
        await asyncio.wait_for(loops.run(lambda: leave(error)), 30)
    assert type(error).__name__ in str(raised.value)
    gate.set()
    assert await asyncio.wait_for(asyncio.wrap_future(other.outcome), 30) is home
    assert await loops.run(where) is home


async def test_nobody_stops_or_closes_the_loop(loops: GraphLoops) -> None:
    home = await loops.run(where)

    async def stop() -> None:
        asyncio.get_running_loop().stop()

    async def close() -> None:
        asyncio.get_running_loop().close()

    for leave in (stop, close):
        with pytest.raises(RuntimeError, match="loop"):
            await loops.run(leave)
    assert await loops.run(where) is home


async def test_what_runs_on_a_loop_fails_when_its_thread_ends_and_a_fresh_loop_takes_over(loops: GraphLoops) -> None:
    begun, begin = asyncio.Event(), asyncio.get_running_loop().call_soon_threadsafe

    async def die() -> None:
        begin(begun.set)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, UsersLoop)
        # As a thread ends whose code calls `pthread_exit`: nobody is told.
        loop.ending = True
        loop.stop()
        await asyncio.Event().wait()

    def gone(self: GraphLoop) -> None:
        """Leave everything open."""

    home = await loops.run(where)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(GraphLoop, "_close", gone)
        dying = loops.submit(die)
        await begun.wait()
        waiting = loops.submit(where)
        with pytest.raises(LoopEnded):
            await asyncio.wait_for(asyncio.wrap_future(dying.outcome), 30)
    assert await asyncio.wait_for(asyncio.wrap_future(waiting.outcome), 30) is not home
    assert not home.is_alive()


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
    loops.submit(blocker, graph_id="blocking")
    await blocker.begun()
    moved = await loops.run(where, graph_id="other")
    gate.set()
    blocker.let_go()
    before, after = await asyncio.wrap_future(waiting.outcome)
    assert before is after is blocker.thread
    assert moved is not before


async def test_work_is_done_once_however_often_it_is_offered(loops: GraphLoops) -> None:
    blocker = Blocker()
    loops.submit(blocker, graph_id="blocking")
    await blocker.begun()
    done: list[int] = []

    async def work(number: int) -> None:
        done.append(number)

    works = [loops.submit(lambda n=n: work(n), graph_id="other") for n in range(20)]
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
    loops.submit(blocker, graph_id="blocking")
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


WATCHED = """
import asyncio, sys
from durathread.graphs.loops import BEAT, GraphLoops


async def main():
    loops = GraphLoops()
    watch = asyncio.create_task(loops.watch())
    await asyncio.sleep(2 * BEAT)
    print("watched", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await asyncio.sleep(4 * BEAT)
    print(loops.set_aside, flush=True)
    watch.cancel()
    loops.close()


asyncio.run(main())
"""


async def test_a_process_that_was_frozen_has_no_loop_that_a_node_blocks() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", WATCHED, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout
    assert await process.stdout.readline() == b"watched\n"
    process.send_signal(signal.SIGSTOP)
    # That long it stands still, at least.
    await asyncio.sleep(STALLED + 3 * BEAT)
    process.send_signal(signal.SIGCONT)
    process.stdin.write(b"on\n")
    assert await process.stdout.readline() == b"0\n"
    assert await process.wait() == 0


async def test_a_node_that_holds_the_gil_does_not_block_its_loop_alone(loops: GraphLoops) -> None:
    async def hold() -> None:
        ctypes.PyDLL(None).usleep(int((STALLED + 3 * BEAT) * 1_000_000))

    with structlog.testing.capture_logs() as lines:
        await loops.run(hold, graph_id="holding")
        await loops.run(where, graph_id="holding")
        await asyncio.sleep(2 * BEAT)
    assert lines == []
