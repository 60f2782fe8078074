"""Measure a burst: runs that are created at once, until their first token; and what it does to the tokens of a run that works."""

import argparse
import asyncio
import statistics
import time
from contextlib import aclosing
from typing import Any, cast

from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

# The run that works meanwhile says something as often as this, in seconds.
TICK = 0.02
STEADY = 1.0


async def first_token(client: LangGraphClient, graph: str, thread_id: str) -> float:
    """Create a run, and return the seconds after which its first token came."""
    began = time.perf_counter()
    events = client.runs.stream(thread_id, graph, input={"seconds": TICK}, stream_mode="custom")
    found = 0.0
    async with aclosing(cast(Any, events)) as live:
        async for event in live:
            if event.event == "custom" and not found:
                found = time.perf_counter() - began
    if not found:
        raise SystemExit("A run ended without a token.")
    return found


async def gaps(
    client: LangGraphClient, graph: str, seconds: float, working: asyncio.Event
) -> list[tuple[float, float]]:
    """Watch a run that says something all the time; return when each token came, and how long after the one before."""
    thread_id = (await client.threads.create())["thread_id"]
    events = client.runs.stream(thread_id, graph, input={"seconds": seconds}, stream_mode="custom")
    found: list[tuple[float, float]] = []
    last = None
    async with aclosing(cast(Any, events)) as live:
        async for event in live:
            if event.event != "custom":
                continue
            now = time.perf_counter()
            if last is not None:
                found.append((now, now - last))
            last = now
            working.set()
    return found


async def burst(client: LangGraphClient, graph: str, size: int) -> tuple[list[float], list[float]]:
    """Create runs at once beside one that works; return their times, and the gaps between its tokens meanwhile."""
    threads = [(await client.threads.create())["thread_id"] for _ in range(size)]
    working = asyncio.Event()
    watched = asyncio.create_task(gaps(client, graph, STEADY + size * 0.1, working))
    await working.wait()
    began = time.perf_counter()
    taken = await asyncio.gather(*(first_token(client, graph, thread_id) for thread_id in threads))
    over = time.perf_counter()
    return taken, [gap for at, gap in await watched if began <= at <= over]


async def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8123")
    parser.add_argument("--graph", default="ticker")
    parser.add_argument("--sizes", type=int, nargs="*", default=[40, 100], help="runs that are created at once")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    async with get_client(url=given.url) as client:
        await burst(client, given.graph, 5)
        for size in given.sizes:
            taken, between = list[float](), list[float]()
            for _ in range(given.rounds):
                times, found = await burst(client, given.graph, size)
                taken += times
                between += found
            print(
                f"burst of {size}: first token after {statistics.median(taken):.2f} s in the median, "
                f"{max(taken):.2f} s at most; between the tokens of the run that works "
                f"{statistics.median(between) * 1000:.0f} ms in the median, {max(between) * 1000:.0f} ms at most"
            )


if __name__ == "__main__":
    asyncio.run(main())
