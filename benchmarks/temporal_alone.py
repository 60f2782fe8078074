"""What Temporal alone takes for the way of a run: signal, thread, child, and activities that do nothing.

The floor under `create -> join`, on the machine and at the moment that it is measured: with one activity of a graph whose nodes
are short, with three of one whose three nodes are long.
"""

import argparse
import asyncio
import os
import statistics
import sys
import time
from datetime import timedelta
from uuid import uuid4

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.service import GrpcCompression
from temporalio.worker import Worker

ENDED: dict[str, asyncio.Event] = {}
BEGUN: dict[str, float] = {}


@activity.defn
async def step(run_id: str, number: int, last: bool) -> int:
    """Do nothing; the last tells who waits."""
    if number == 0:
        BEGUN[run_id] = time.perf_counter()
    if last:
        ENDED[run_id].set()
    return number


@workflow.defn(sandboxed=False)
class BareRun:
    """Some activities, one after the other."""

    @workflow.run
    async def run(self, run_id: str, steps: int) -> None:
        for number in range(steps):
            args = [run_id, number, number == steps - 1]
            await workflow.execute_activity(step, args=args, start_to_close_timeout=timedelta(seconds=10))


@workflow.defn(sandboxed=False)
class BareThread:
    """A queue of one."""

    def __init__(self) -> None:
        self._queue: list[tuple[str, int]] = []

    @workflow.signal
    def new_run(self, run_id: str, steps: int) -> None:
        self._queue.append((run_id, steps))

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: bool(self._queue))
        run_id, steps = self._queue.pop()
        await workflow.execute_child_workflow(BareRun.run, args=[run_id, steps], id=f"bare-run/{run_id}")


async def one(client: Client, steps: int) -> float:
    """Run once and return the milliseconds it took."""
    run_id = str(uuid4())
    ENDED[run_id] = asyncio.Event()
    began = time.perf_counter()
    await client.start_workflow(
        BareThread.run,
        id=f"bare-thread/{run_id}",
        task_queue="bare",
        start_signal="new_run",
        start_signal_args=[run_id, steps],
    )
    await ENDED[run_id].wait()
    return (time.perf_counter() - began) * 1000


async def burst(client: Client, runs: int, steps: int) -> list[float]:
    """Start runs at once, and return the milliseconds after which the first activity of each began."""
    began = time.perf_counter()
    BEGUN.clear()
    await asyncio.gather(*(one(client, steps) for _ in range(runs)))
    return sorted((at - began) * 1000 for at in BEGUN.values())


async def loop(client: Client, runs: int, steps: int) -> None:
    """Run one after the other."""
    for _ in range(runs):
        await one(client, steps)


async def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="127.0.0.1:7233", help="where Temporal is")
    parser.add_argument(
        "--runs", type=int, default=40, help="samples; a quarter of it, for each client of the closed loop"
    )
    parser.add_argument("--steps", type=int, default=3, help="activities of a run")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--bursts", type=int, nargs="*", default=[40, 100], help="runs that are started at once")
    given = parser.parse_args()
    client = await Client.connect(given.address, grpc_compression=GrpcCompression.NONE)
    async with Worker(client, task_queue="bare", workflows=[BareThread, BareRun], activities=[step]):
        await loop(client, 3, given.steps)
        taken = sorted([await one(client, given.steps) for _ in range(given.runs)])
        began, busy = time.perf_counter(), time.process_time()
        each = max(given.runs // 4, 1)
        await asyncio.gather(*(loop(client, each, given.steps) for _ in range(given.clients)))
        rate = given.clients * each / (time.perf_counter() - began)
        cpu = (time.process_time() - busy) / (given.clients * each) * 1000
        bursts = {size: await burst(client, size, given.steps) for size in given.bursts}
    p95 = taken[int(len(taken) * 0.95)]
    print(f"signal -> end of activity {given.steps}: median {statistics.median(taken):.1f} ms, p95 {p95:.1f} ms")
    print(f"{given.clients} clients: {rate:.1f} runs/s; {cpu:.1f} ms of this process's processor time a run")
    for size, samples in bursts.items():
        print(f"burst of {size}: first activity after {statistics.median(samples):.0f} ms in the median")


if __name__ == "__main__":
    asyncio.run(main())
    # temporalio can abort the interpreter's own exit.
    sys.stdout.flush()
    os._exit(0)
