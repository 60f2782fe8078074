"""What LangGraph alone takes for the graph of the benchmarks, with its own Postgres saver: no server, no queue, no stream.

The floor under the processor time of a worker and of Postgres, beside that of `temporal_alone.py`.
"""

import argparse
import asyncio
import statistics
import sys
import time
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

sys.path.insert(0, str(Path(__file__).parent / "graphs"))
from bench_graphs import noop3


async def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", required=True, help="a migrated database")
    parser.add_argument("--runs", type=int, default=100)
    given = parser.parse_args()
    options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    async with AsyncConnectionPool(given.database, kwargs=options, min_size=2, max_size=8, open=False) as pool:
        await pool.open(wait=True)
        noop3.checkpointer = AsyncPostgresSaver(cast(Any, pool))
        taken, busy = list[float](), time.process_time()
        for number in range(given.runs + 5):
            if number == 5:
                taken, busy = [], time.process_time()
            began = time.perf_counter()
            config = {"configurable": {"thread_id": str(uuid4())}}
            async for _ in noop3.astream({"note": "x"}, config, stream_mode=["values", "tasks"], durability="sync"):
                pass
            taken.append((time.perf_counter() - began) * 1000)
    cpu = (time.process_time() - busy) / given.runs * 1000
    print(f"three nodes: median {statistics.median(taken):.1f} ms; {cpu:.1f} ms of this process's processor time a run")


if __name__ == "__main__":
    asyncio.run(main())
