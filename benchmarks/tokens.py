"""Measure what tokens cost: runs that say something every 20 ms, each watched by a client: processor time for 1,000."""

import argparse
import asyncio

from compare import Server, server_of
from langgraph_sdk import get_client
from processes import spent
from run import fresh_thread

# How often the node speaks, in seconds.
PACE = 0.02


async def watch(server: Server, seconds: float, heard: list[int]) -> None:
    """Start a run, and count its tokens."""
    async with get_client(url=server.url) as client:
        thread_id = await fresh_thread(client)
        place, given = len(heard), {"seconds": seconds}
        heard.append(0)
        async for event in client.runs.stream(thread_id, "ticker", input=given, stream_mode="custom"):
            heard[place] += event.event == "custom"


async def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", type=server_of, required=True, metavar="NAME=URL[,PID...]")
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10)
    given = parser.parse_args()
    server: Server = given.server
    heard = list[int]()
    watching = [asyncio.create_task(watch(server, given.seconds, heard)) for _ in range(given.streams)]
    # Once all speak: what a start costs is measured elsewhere.
    while len(heard) < given.streams or not all(heard):  # noqa: ASYNC110
        await asyncio.sleep(PACE)
    before, first = spent(server.pids), sum(heard)
    await asyncio.sleep(given.seconds / 2)
    after, tokens = spent(server.pids), sum(heard) - first
    await asyncio.gather(*watching)
    costs = {name: (after[name] - before.get(name, 0)) / tokens for name in after}
    print(f"{given.streams} streams, {tokens} tokens")
    print("CPU s for 1,000 tokens: " + ", ".join(f"{name} {cost:.2f}" for name, cost in costs.items()))


if __name__ == "__main__":
    asyncio.run(main())
