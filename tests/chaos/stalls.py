"""Measures how long a server has stood still though it had work."""

import asyncio
import time
from typing import LiteralString

import psycopg

PROGRESS: LiteralString = """
SELECT (SELECT max(checkpoint_id) FROM checkpoints), (SELECT count(*) FROM checkpoint_writes),
       (SELECT max(ended_at) FROM run), (SELECT max(started_at) FROM run),
       EXISTS (SELECT 1 FROM run WHERE status IN ('pending', 'running') AND created_at < now())
"""


class Stalls:
    """Looks again and again whether anything has happened. A database that is away is a stall as well."""

    def __init__(self, database: str) -> None:
        """Take the database to look at."""
        self._database = database
        self.longest = 0.0

    async def watch(self) -> None:
        """Look until cancelled."""
        seen: object = None
        since = time.monotonic()
        while True:
            now = await self._look()
            if now is not None and (now[:-1] != seen or not now[-1]):
                seen, since = now[:-1], time.monotonic()
            self.longest = max(self.longest, time.monotonic() - since)
            await asyncio.sleep(0.5)

    async def _look(self) -> tuple[object, ...] | None:
        try:
            async with asyncio.timeout(2):
                connect = psycopg.AsyncConnection.connect
                async with await connect(self._database, autocommit=True, connect_timeout=2) as conn:
                    return await (await conn.execute(PROGRESS)).fetchone()
        except (psycopg.Error, TimeoutError):
            return None
