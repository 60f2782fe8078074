"""What must be true when everything has come to rest, whatever was killed before."""

import asyncio
import re
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID

import httpx
import psycopg
from psycopg.rows import dict_row
from redis.asyncio import Redis
from temporalio.client import Client

from tests.chaos.ledger import Ledger, Seen
from tests.receiver import Receiver
from tests.served.plans import expected

Row = dict[str, Any]

RUNS = """
SELECT r.run_id::text, r.thread_id::text, r.status, r.seq, r.created_at, r.strategy, r.retries, r.attempt, r.kwargs ->> 'webhook' AS webhook, r.error
FROM run r ORDER BY r.seq
"""
THREADS = """
SELECT thread_id::text, status, resting, temporary, hidden, error, interrupts FROM thread WHERE NOT hidden
"""
FORKS = """
SELECT thread_id, parent_checkpoint_id, count(*) FROM checkpoints WHERE checkpoint_ns = ''
GROUP BY 1, 2 HAVING count(*) > 1
"""
ORPHANS: dict[str, LiteralString] = {
    "checkpoints of no thread": "SELECT DISTINCT thread_id FROM checkpoints c WHERE NOT EXISTS (SELECT 1 FROM thread t WHERE t.thread_id::text = c.thread_id)",
    "blobs of no thread": "SELECT DISTINCT thread_id FROM checkpoint_blobs c WHERE NOT EXISTS (SELECT 1 FROM thread t WHERE t.thread_id::text = c.thread_id)",
    # Those of a run that is there may be of a step whose worker was killed before it wrote its checkpoint.
    "writes of no checkpoint": "SELECT DISTINCT thread_id FROM checkpoint_writes w WHERE NOT EXISTS (SELECT 1 FROM checkpoints c WHERE (c.thread_id, c.checkpoint_ns, c.checkpoint_id) = (w.thread_id, w.checkpoint_ns, w.checkpoint_id)) AND NOT EXISTS (SELECT 1 FROM run r WHERE r.run_id::text = w.run_id)",
}
# A copy has the checkpoints of runs that are its source's.
GONE = """
SELECT DISTINCT thread_id, metadata ->> 'run_id' AS run_id FROM checkpoints c WHERE metadata ->> 'run_id' IS NOT NULL
AND NOT EXISTS (SELECT 1 FROM run r WHERE r.run_id::text = c.metadata ->> 'run_id')
"""
UNRESTED = """
SELECT 'run ' || run_id || ' is ' || status AS what FROM run WHERE status IN ('pending', 'running')
UNION ALL SELECT 'thread ' || thread_id || ' is busy' FROM thread WHERE status = 'busy'
UNION ALL SELECT 'webhook of ' || run_id || ' is owed' FROM outbox
"""
LOUD = re.compile(r"\[error|\[critical|Traceback|^\w*(Error|Exception)\b|WARN|ERROR", re.MULTILINE)
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Verdict:
    """What was found wrong, and what was counted on the way."""

    wrong: list[str] = field(default_factory=list[str])
    counts: Counter[str] = field(default_factory=Counter[str])
    noise: Counter[str] = field(default_factory=Counter[str])
    # For how long nothing happened though there was work, in seconds.
    longest_stall: float = 0

    def blame(self, what: str) -> None:
        """Note something that is wrong."""
        self.wrong.append(what)


async def rest(database: str, *, patience: float) -> list[str]:
    """Wait until nothing is in flight, busy or owed; return what still is when patience ends."""
    end = time.monotonic() + patience
    while True:
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as conn:
            found = [str(row[0]) for row in await (await conn.execute(UNRESTED)).fetchall()]
        if not found or time.monotonic() > end:
            return found
        await asyncio.sleep(0.2)


async def judge(
    ledger: Ledger,
    *,
    database: str,
    url: str,
    temporal: Client,
    task_queue: str,
    redis_url: str,
    receiver: Receiver | None,
    lost: Sequence[float] = (),
) -> Verdict:
    """Look at everything."""
    verdict = Verdict(list(ledger.wrong))
    connect = psycopg.AsyncConnection[Row].connect
    async with await connect(database, autocommit=True, row_factory=dict_row) as conn:
        runs: list[Row] = await (await conn.execute(RUNS)).fetchall()
        threads: list[Row] = await (await conn.execute(THREADS)).fetchall()
        for row in await (await conn.execute(FORKS)).fetchall():
            verdict.blame(f"two checkpoints of one parent: {row}")
        for what, query in ORPHANS.items():
            if found := await (await conn.execute(query)).fetchall():
                verdict.blame(f"{what}: {found[:5]}")
        gone: list[Row] = await (await conn.execute(GONE)).fetchall()
    for row in gone:
        known = ledger.acknowledged.get(row["run_id"])
        if known is not None and known.thread_id == row["thread_id"]:
            verdict.blame(f"checkpoints of a run that is gone: {row}")
    _judge_runs(verdict, ledger, runs)
    await _judge_threads(verdict, ledger, runs, threads, url)
    await _judge_workflows(verdict, temporal, task_queue)
    await _judge_streams(verdict, ledger.seen, runs, url, lost)
    await _judge_keys(verdict, redis_url)
    if receiver is not None:
        _judge_webhooks(verdict, receiver, runs)
    return verdict


def _judge_runs(verdict: Verdict, ledger: Ledger, runs: Sequence[Row]) -> None:
    there = {row["run_id"]: row for row in runs}
    verdict.counts.update(row["status"] for row in runs)
    verdict.counts["repeated steps"] = sum(row["retries"] for row in runs)
    for run in ledger.acknowledged.values():
        row = there.get(run.run_id)
        if row is None and not ledger.may_be_gone(run):
            verdict.blame(f"run {run.run_id} of thread {run.thread_id} was accepted and is gone")
        if row is not None and row["status"] == "error":
            error: dict[str, str] = row["error"] or {}
            if error.get("error") not in ("ValueError", "EmptyInputError", "InvalidUpdateError"):
                verdict.blame(f"run {run.run_id} failed for no reason of its own: {error}")
            if error.get("error") == "ValueError" and run.plan and "fail" not in run.items:
                verdict.blame(f"run {run.run_id} failed without a reason: {error}; {run}; {row}")


async def _judge_threads(
    verdict: Verdict, ledger: Ledger, runs: Sequence[Row], threads: Sequence[Row], url: str
) -> None:
    by_thread: dict[str, list[Row]] = defaultdict(list)
    for row in runs:
        by_thread[row["thread_id"]].append(row)
    # Delayed runs are due when their rows say that they were created.
    places = {row["run_id"]: (row["created_at"], row["seq"]) for row in runs}
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        for thread in threads:
            response = await http.get(f"/threads/{thread['thread_id']}/state")
            if response.status_code != 200:
                verdict.blame(f"the state of {thread}: {response.status_code} {response.text[:300]}")
                continue
            state = response.json()
            own = by_thread[thread["thread_id"]]
            if thread["thread_id"] not in ledger.edited:
                _judge_status(verdict, thread, state, sorted(own, key=lambda row: places[row["run_id"]]))
            log: list[str] = (state["values"] or {}).get("log", []) if isinstance(state["values"], dict) else []
            _judge_log(verdict, ledger, thread["thread_id"], log, places, own)
            path: list[str] = (state["values"] or {}).get("path", []) if isinstance(state["values"], dict) else []
            _judge_path(verdict, ledger, thread["thread_id"], path, own)


def _judge_status(verdict: Verdict, thread: Row, state: Any, runs: Sequence[Row]) -> None:
    """The thread shows what its last run left; the runs are given in the order in which they have their turn."""
    waits = bool(state["next"])
    expected = {"interrupted"} if waits else {"idle"}
    if runs and runs[-1]["status"] in ("error", "timeout"):
        expected = {"error"}
    elif any(row["status"] in ("error", "timeout") for row in runs):
        # A run that never worked leaves the status of the one before.
        expected.add("error")
    elif all(row["attempt"] == 0 for row in runs) and any(task["error"] for task in state["tasks"]):
        # And the copy of a thread has that of its source.
        expected.add("error")
    if thread["status"] not in expected:
        last = [(row["status"], row["strategy"], row["attempt"]) for row in runs[-3:]]
        verdict.blame(
            f"thread {thread['thread_id']} is {thread['status']}, not {expected}; next {state['next']}, runs {last}"
        )


def _judge_log(
    verdict: Verdict, ledger: Ledger, thread_id: str, log: Sequence[str], places: dict[str, Any], runs: Sequence[Row]
) -> None:
    """Each plan's items stand in the log once, in order and unbroken; plans in order of admission."""
    taken: dict[str, int] = {}
    current, passed = "", dict[str, None]()
    for entry in log:
        kind, *rest_ = entry.split("/")
        if kind == "edit":
            current = ""
            continue
        if kind == "in":
            current = rest_[0]
            if current in taken:
                verdict.blame(f"thread {thread_id}: the input of {current} was taken twice: {log}")
            taken[current] = 0
            continue
        position, run_id = int(rest_[0]), rest_[1]
        if kind != current or taken.get(kind) != position:
            verdict.blame(f"thread {thread_id}: {entry} is out of place in {log}")
            return
        taken[kind] = position + 1
        if run_id in places:
            for other in passed:
                if places[run_id] < places[other] and ledger.is_before(run_id, other):
                    verdict.blame(f"thread {thread_id}: {entry} of an earlier run stands behind that of {other}: {log}")
            passed[run_id] = None
        elif run_id in {row["run_id"] for row in runs}:
            verdict.blame(f"thread {thread_id}: {entry} is of a run that is gone")
    done = {row["run_id"] for row in runs if row["status"] == "success"}
    for run in ledger.acknowledged.values():
        if run.thread_id != thread_id or run.run_id not in done or not run.plan:
            continue
        if run.plan not in taken:
            if not any(time_ > run.asked - 60 for time_ in ledger.deletions.get(thread_id, ())):
                verdict.blame(f"thread {thread_id}: run {run.run_id} succeeded, but {run.plan} is not in {log}")
        elif taken[run.plan] < (run.items.index("ask") if "ask" in run.items else len(run.items)):
            verdict.blame(f"thread {thread_id}: run {run.run_id} succeeded, but {run.plan} is not done in {log}")


def _judge_path(verdict: Verdict, ledger: Ledger, thread_id: str, path: Sequence[str], runs: Sequence[Row]) -> None:
    """Each plan has run through its nodes in order, once; through all of them, if its run succeeded."""
    taken: dict[str, list[str]] = defaultdict(list)
    for entry in path:
        plan, _, place = entry.partition("/")
        taken[plan].append(place)
    done = {row["run_id"] for row in runs if row["status"] == "success"}
    for run in ledger.acknowledged.values():
        if run.plan not in taken:
            continue
        way = expected(list(run.items))
        if taken[run.plan] != way[: len(taken[run.plan])]:
            verdict.blame(f"thread {thread_id}: {run.plan} went {taken[run.plan]}, not {way}")
        elif run.thread_id == thread_id and run.run_id in done and "ask" not in run.items:
            verdict.counts["whole paths"] += 1
            if taken[run.plan] != way:
                verdict.blame(f"thread {thread_id}: run {run.run_id} succeeded after {taken[run.plan]} of {way}")


async def _judge_workflows(verdict: Verdict, temporal: Client, task_queue: str) -> None:
    query = f"ExecutionStatus = 'Running' AND TaskQueue = '{task_queue}'"
    end = time.monotonic() + 15
    while True:
        found = [each.id async for each in temporal.list_workflows(query) if each.id.startswith(("run/", "webhook/"))]
        if not found:
            return
        if time.monotonic() > end:
            verdict.blame(f"workflows of ended runs are open: {found[:5]} ({len(found)})")
            return
        await asyncio.sleep(0.5)


async def _judge_streams(
    verdict: Verdict, seen: Sequence[Seen], runs: Sequence[Row], url: str, lost: Sequence[float]
) -> None:
    there = {row["run_id"]: row for row in runs}
    verdict.counts["streams"] = len(seen)
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        for each in seen:
            found = [event_id for event_id, _, _ in each.events if event_id]
            order = [tuple(map(int, event_id.split("-"))) for event_id in found]
            if order != sorted(set(order)):
                verdict.blame(f"the stream of {each.run_id} repeats or disorders events: {found}")
            row = there.get(each.run_id)
            expected = row["status"] if row else None
            if expected is not None and each.status != expected:
                verdict.blame(f"the stream of {each.run_id} ended {each.status}, its row says {expected}")
            if row is None and each.status not in ("rollback", "deleted", "interrupted", "success", "error"):
                verdict.blame(f"the stream of {each.run_id}, which is gone, ended {each.status}")
            _judge_marks(verdict, each)
            if row is not None and not any(time_ > each.finished - 90 for time_ in lost):
                await _judge_replay(verdict, http, each)


def _judge_marks(verdict: Verdict, seen: Seen) -> None:
    """Between two announcements of an attempt, each item is shown at most once, in order."""
    last, attempts = -1, [0]
    for _, name, data in seen.events:
        if name == "metadata" and data.get("gap"):
            # What was missing is not known, and what comes next may have been seen.
            last = -1
        elif name == "metadata" and "attempt" in data:
            attempts.append(data["attempt"])
            last = -1
        if name == "updates" and isinstance(data.get("work"), dict):
            for mark in data["work"].get("log", []):
                position = int(mark.split("/")[1])
                if position <= last:
                    verdict.blame(f"the stream of {seen.run_id} shows {mark} again: {seen.events}")
                last = position
    if attempts != sorted(set(attempts)):
        verdict.blame(f"the stream of {seen.run_id} announces attempts {attempts[1:]}")


async def _judge_replay(verdict: Verdict, http: httpx.AsyncClient, seen: Seen) -> None:
    """Who reads all at once sees what was seen over several connections."""
    path = f"/threads/{seen.thread_id}/runs/{seen.run_id}/stream"
    async with http.stream("GET", path, headers={"Last-Event-ID": "-1"}) as response:
        if response.status_code != 200:
            return
        found = [line[4:] async for line in response.aiter_lines() if line.startswith("id: ")]
    kept = [event_id for event_id, _, _ in seen.events if event_id]
    verdict.counts["replays"] += 1
    # What is kept ends some time after the run, and then there is nothing.
    if found and [event_id for event_id in found if event_id in set(kept)] != kept:
        verdict.blame(f"the stream of {seen.run_id} replays as {found}, but was {kept}")
    missed = [event_id for event_id in found[: len(kept)] if event_id not in kept]
    if missed:
        verdict.blame(f"a reader of {seen.run_id} missed {missed} of {found}; saw {kept}")


async def _judge_keys(verdict: Verdict, redis_url: str) -> None:
    redis = Redis.from_url(redis_url)
    try:
        keys = [key async for key in redis.scan_iter("durathread:*")]
        mortal = [await redis.ttl(key) for key in keys]
    finally:
        await redis.aclose()
    forever = [key for key, ttl in zip(keys, mortal, strict=True) if ttl == -1]
    if forever:
        verdict.blame(f"keys that never expire: {forever[:5]} ({len(forever)})")


def _judge_webhooks(verdict: Verdict, receiver: Receiver, runs: Sequence[Row]) -> None:
    told: dict[str, set[str]] = defaultdict(set)
    for received in receiver.received:
        told[received.json["run_id"]].add(received.headers["webhook-id"])
    verdict.counts["webhooks"] = len(told)
    for run_id, names in told.items():
        if len(names) != 1:
            verdict.blame(f"the webhook of {run_id} has the ids {names}")
    for row in runs:
        worked = row["attempt"] or row["status"] in ("success", "error", "timeout")
        if row["webhook"] and worked and UUID(row["run_id"]) and row["run_id"] not in told:
            verdict.blame(f"nobody was told of {row['run_id']}, {row['status']}")


def noise(logs: Sequence[Path]) -> Counter[str]:
    """Count what processes have complained about, by kind."""
    found: Counter[str] = Counter()
    for path in logs:
        for line in ESCAPES.sub("", path.read_text(errors="replace")).splitlines():
            if LOUD.search(line):
                kind = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+", "#", line)
                found[kind[:200]] += 1
    return found
