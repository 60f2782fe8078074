"""What is done to the processes of a server: they are killed, stopped, frozen and started again."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from durathread.embedded.child import Child
from durathread.embedded.engines import Engines
from tests.stack import Stack

ENGINES = ("valkey", "postgres", "temporal")


class Havoc:
    """Hurts one thing after the other, and leaves all of them whole at the end."""

    def __init__(self, engines: Engines, stacks: Sequence[Stack], *, seed: int, only: Sequence[str] = ()) -> None:
        """Take what may be hurt; `only` names the calamities to choose from."""
        self.random = random.Random(f"{seed}/havoc")
        self.engines = engines
        self.stacks = stacks
        # When Valkey was lost with what it held.
        self.lost: list[float] = []
        # Those that are dead on purpose.
        self._down: list[tuple[Stack, str]] = []
        self.counts: Counter[str] = Counter()
        known = {
            "kill-worker": (6, self.kill_worker),
            "stop-worker": (3, self.stop_worker),
            "freeze-worker": (3, self.freeze_worker),
            "kill-api": (4, self.kill_api),
            "stop-api": (2, self.stop_api),
            "freeze-api": (1, self.freeze_api),
            "kill-engine": (4, self.kill_engine),
            "freeze-engine": (3, self.freeze_engine),
            "kill-everything": (1, self.kill_everything),
            "sleep": (2, self.sleep),
            "roll": (2, self.roll),
            "nothing": (1, self.nothing),
        }
        self.calamities = {name: each for name, each in known.items() if not only or name in only}

    async def run(self, until: float, *, pause: float = 3.0) -> None:
        """Hurt things until it is time to stop."""
        while time.monotonic() < until:
            await asyncio.sleep(self.random.uniform(0.2, 2 * pause))
            names = list(self.calamities)
            name = self.random.choices(names, [self.calamities[each][0] for each in names])[0]
            self.counts[name] += 1
            hurt: Callable[[], Awaitable[None]] = self.calamities[name][1]
            await hurt()

    async def kill_worker(self) -> None:
        """Kill a worker, and start it again soon."""
        await self._again(*self._one("worker"), signal.SIGKILL)

    async def stop_worker(self) -> None:
        """Let a worker finish, as a deploy does."""
        await self._again(*self._one("worker"), signal.SIGTERM)

    async def freeze_worker(self) -> None:
        """Freeze a worker, for longer than its lease or not, and let it wake up."""
        stack, name = self._one("worker")
        await self._frozen(family(stack.processes[name].pid), self._while())

    async def kill_api(self) -> None:
        """Kill an API, and start it again soon."""
        await self._again(*self._one("api"), signal.SIGKILL)

    async def stop_api(self) -> None:
        """Stop an API, as a deploy does."""
        await self._again(*self._one("api"), signal.SIGTERM)

    async def freeze_api(self) -> None:
        """Freeze an API."""
        stack, name = self._one("api")
        await self._frozen(family(stack.processes[name].pid), self._while())

    async def kill_engine(self) -> None:
        """Kill an engine, and start it again soon."""
        await self._restart(self.random.choice(ENGINES), self.random.uniform(0, 3))

    async def freeze_engine(self) -> None:
        """Freeze an engine, with its children."""
        engine: Child = getattr(self.engines, self.random.choice(ENGINES))
        if engine.pid is not None:
            await self._frozen(family(engine.pid), self._while())

    async def kill_everything(self) -> None:
        """Kill all processes at once, and start them in any order."""
        for stack, name in self._all():
            stack.processes[name].kill()
        for name in ENGINES:
            self._engine(name).kill()
        self.lost.append(time.monotonic())
        await asyncio.gather(*(self._engine(name).wait() for name in ENGINES))
        work = [self._engine(name).start for name in ENGINES]
        await asyncio.gather(*(start() for start in work), self.mend())

    async def sleep(self) -> None:
        """Freeze everything at once, as a laptop does that is closed."""
        engines = [pid for name in ENGINES if (pid := self._engine(name).pid) is not None]
        roles = [stack.processes[name].pid for stack, name in self._all()]
        await self._frozen([each for pid in (*roles, *engines) for each in family(pid)], self._while())

    async def roll(self) -> None:
        """Stop and start all roles, one after the other, as a deploy does."""
        for stack, name in self._all():
            await self._again(stack, name, signal.SIGTERM)

    async def nothing(self) -> None:
        """Hurt nothing: what clients do to each other is to be seen alone."""

    async def supervise(self, until: float) -> None:
        """Do what a supervisor does: start what has died of what was done to others."""
        while time.monotonic() < until:
            await asyncio.sleep(1)
            await self.mend()

    async def mend(self) -> None:
        """Start what is dead, unless somebody is about to."""
        for stack, name in self._all():
            if stack.processes[name].returncode is not None and (stack, name) not in self._down:
                # Nobody else starts it meanwhile: of two, one would be forgotten and outlive us.
                self._down.append((stack, name))
                await stack.start(name, name.rstrip("0123456789"))
                self._down.remove((stack, name))

    def _while(self) -> float:
        """Choose for how long something is frozen, in seconds: seldom for long."""
        return 20 ** self.random.random()

    def _all(self) -> list[tuple[Stack, str]]:
        return [(stack, name) for stack in self.stacks for name in list(stack.processes)]

    def _one(self, role: str) -> tuple[Stack, str]:
        return self.random.choice([each for each in self._all() if each[1].startswith(role)])

    def _engine(self, name: str) -> Child:
        return getattr(self.engines, name)

    async def _again(self, stack: Stack, name: str, number: signal.Signals) -> None:
        self._down.append((stack, name))
        process = stack.processes[name]
        if process.returncode is None:
            process.send_signal(number)
        await process.wait()
        await asyncio.sleep(self.random.choice([0, 0, 1, 3]))
        self._down.remove((stack, name))
        await self.mend()

    async def _restart(self, name: str, pause: float) -> None:
        engine = self._engine(name)
        if name == "valkey":
            self.lost.append(time.monotonic())
        engine.kill()
        await engine.wait()
        await asyncio.sleep(pause)
        await engine.start()

    async def _frozen(self, pids: Sequence[int], seconds: float) -> None:
        send(pids, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            send(pids, signal.SIGCONT)


def family(pid: int) -> list[int]:
    """List a process and its descendants (Linux)."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(folder.name))
    found = [pid]
    for each in found:
        found += parents.get(each, [])
    return found


def send(pids: Sequence[int], number: signal.Signals) -> None:
    """Send a signal to processes that may have gone."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
