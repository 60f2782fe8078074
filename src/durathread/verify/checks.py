"""What a server of this API must do, as its clients see it. Each check has a thread of its own, and says what is wrong."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError, NotFoundError

GRAPH = "verify"
FIRST, SECOND = ["r1", "a", "b", "c"], ["r2", "a", "b", "c"]
# How long a check waits for what must come, and how often it looks, in seconds.
PATIENCE, PAUSE = 120.0, 0.05
# How long what goes on although it was stopped is given to write, in seconds.
MARGIN = 0.5
# At once, all of them with `reject`.
RACERS = 5


class WrongError(Exception):
    """The server does not do what it must; says what it does."""


class TooLateError(Exception):
    """The run that was to be met at work had ended by then: nothing was learned, and it is to be tried with a longer one."""


@dataclass
class Turn:
    """A thread with a run that works for so many seconds."""

    client: LangGraphClient
    seconds: float
    thread_id: str = field(default_factory=lambda: str(uuid4()))
    # When its second node was seen to work, in the time of the loop.
    seen: float = 0

    async def begin(self) -> str:
        """Start a run, and return its id when its second node works."""
        await self.client.threads.create(thread_id=self.thread_id)
        run_id = await self.start("r1", seconds=self.seconds)
        await self._until("the first run works", self._works, run_id)
        self.seen = asyncio.get_running_loop().time()
        return run_id

    async def start(self, label: str, *, seconds: float = 0, **options: Any) -> str:
        """Start a run on the thread."""
        given: dict[str, Any] = {"log": [label], "seconds": seconds}
        run = await self.client.runs.create(self.thread_id, GRAPH, input=given, **options)
        return str(run["run_id"])

    async def meet(self, strategy: Any, first: str) -> str:
        """Start a second run while the first works.

        Raises:
            TooLateError: it had ended before.
        """
        second = await self.start("r2", multitask_strategy=strategy)
        if await self.status(first) == "success" and await self.took_turns([first, second]):
            raise TooLateError
        return second

    async def ended(self, run_id: str) -> None:
        """Wait for the end of a run."""
        await self._until("a run ends", self._is_over, run_id)

    async def outlast(self) -> None:
        """Wait until the second node of the first run has come to its end, if it was not stopped."""
        await asyncio.sleep(self.seen + self.seconds + MARGIN - asyncio.get_running_loop().time())

    async def status(self, run_id: str) -> str | None:
        """Return what has become of a run; None if there is none."""
        try:
            return str((await self.client.runs.get(self.thread_id, run_id))["status"])
        except NotFoundError:
            return None

    async def log(self) -> list[str]:
        """Return what the thread's runs have written."""
        values: Any = (await self.client.threads.get_state(self.thread_id))["values"]
        return list((values or {}).get("log", []))

    async def took_turns(self, run_ids: Sequence[str]) -> bool:
        """Say whether, of runs that have ended, one had ended before another was created."""
        runs = [await self.client.runs.get(self.thread_id, run_id) for run_id in run_ids]
        return min(run["updated_at"] for run in runs) <= max(run["created_at"] for run in runs)

    async def _works(self, run_id: str) -> bool:
        if await self._is_over(run_id):
            raise TooLateError
        return list((await self.client.threads.get_state(self.thread_id))["next"]) == ["b"]

    async def _is_over(self, run_id: str) -> bool:
        return await self.status(run_id) not in ("pending", "running")

    async def _until(self, what: str, check: Callable[[str], Awaitable[bool]], run_id: str) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE
        while not await check(run_id):
            if loop.time() > end:
                raise WrongError(f"after {PATIENCE:.0f} s it is not so that {what}")
            await asyncio.sleep(PAUSE)


def expect(what: str, found: object, expected: object) -> None:
    """Compare.

    Raises:
        WrongError: it is something else.
    """
    if found != expected:
        raise WrongError(f"{what}: {found}, not {expected}")


async def rejects(turn: Turn) -> None:
    """A second run with `reject` is refused by 409 while one works, and the first is left alone."""
    first = await turn.begin()
    try:
        await turn.meet("reject", first)
    except ConflictError:
        await turn.ended(first)
        expect("the thread", await turn.log(), FIRST)
        return
    raise WrongError("it is accepted")


async def enqueues(turn: Turn) -> None:
    """A second run with `enqueue` begins when the first has ended."""
    first = await turn.begin()
    second = await turn.meet("enqueue", first)
    for run_id in (first, second):
        await turn.ended(run_id)
    expect("the thread", await turn.log(), FIRST + SECOND)


async def interrupts(turn: Turn) -> None:
    """A second run with `interrupt` stops the first for good, and goes on from its last checkpoint."""
    first = await turn.begin()
    second = await turn.meet("interrupt", first)
    for run_id in (second, first):
        await turn.ended(run_id)
    await turn.outlast()
    expect("the first run", await turn.status(first), "interrupted")
    expect("the thread", await turn.log(), [*FIRST[:2], *SECOND])


async def rolls_back(turn: Turn) -> None:
    """A second run with `rollback` takes the first back, with all that it has written."""
    first = await turn.begin()
    second = await turn.meet("rollback", first)
    await turn.ended(second)
    await turn.outlast()
    expect("the first run", await turn.status(first), None)
    expect("the thread", await turn.log(), SECOND)


async def races(turn: Turn) -> None:
    """Of five runs with `reject` that come at once, one is accepted."""
    await turn.client.threads.create(thread_id=turn.thread_id)
    starting = [turn.start("r1", seconds=turn.seconds, multitask_strategy="reject") for _ in range(RACERS)]
    came = await asyncio.gather(*starting, return_exceptions=True)
    refused = [each for each in came if isinstance(each, ConflictError)]
    for each in came:
        if isinstance(each, BaseException) and each not in refused:
            raise each
    accepted = [each for each in came if isinstance(each, str)]
    for run_id in accepted:
        await turn.ended(run_id)
    if len(accepted) > 1 and await turn.took_turns(accepted):
        raise TooLateError
    expect("accepted", len(accepted), 1)
    expect("the thread", await turn.log(), FIRST)


async def cancels(turn: Turn) -> None:
    """A run that is cancelled is `interrupted`, and its thread takes the next."""
    first = await turn.begin()
    await turn.client.runs.cancel(turn.thread_id, first, wait=True)
    await turn.ended(first)
    if await turn.status(first) == "success":
        raise TooLateError
    expect("the run", await turn.status(first), "interrupted")
    await turn.ended(await turn.start("r2"))
    await turn.outlast()
    expect("the thread", await turn.log(), [*FIRST[:2], *SECOND])


Check = Callable[[Turn], Awaitable[None]]
CHECKS: dict[str, Check] = {
    "reject": rejects,
    "enqueue": enqueues,
    "interrupt": interrupts,
    "rollback": rolls_back,
    "race": races,
    "cancel": cancels,
}
