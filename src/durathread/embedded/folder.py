"""The folder that holds the data of the embedded engines, and who uses it."""

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from durathread.embedded.processes import identity
from durathread.errors import EngineError

ENVIRONMENT = "environment.json"
NOBODY = "No `durathread dev` runs on {path}. Start it, or name its folder with --data."
LOOKS = 20
LOG_LIMIT = 10 * 1024 * 1024


@dataclass(frozen=True)
class Folder:
    """A data folder that this process has to itself."""

    path: Path

    def log(self, name: str) -> Path:
        """Return the log file of a child; a long one starts anew, with the old one beside it."""
        path = self.path / "logs" / f"{name}.log"
        if path.exists() and path.stat().st_size > LOG_LIMIT:
            path.replace(path.with_suffix(".log.old"))
        return path

    def record(self, name: str, *, pid: int, stop_signal: int) -> None:
        """Note a child, for whoever comes after us if we die without stopping it."""
        note = {"pid": pid, "identity": identity(pid), "signal": stop_signal}
        self._note(name).write_text(json.dumps(note))

    def forget(self, name: str) -> None:
        """Strike out the note of a child that has ended."""
        self._note(name).unlink(missing_ok=True)

    async def stop_orphans(self, *, grace: float = 10) -> None:
        """Stop the children of a predecessor that died without stopping them."""
        orphans = [_Orphan(**json.loads(path.read_text() or "{}")) for path in (self.path / "pids").iterdir()]
        for orphan in orphans:
            orphan.send(orphan.signal)
        deadline = time.monotonic() + grace
        while any(orphan.alive for orphan in orphans):
            if time.monotonic() > deadline:
                for orphan in orphans:
                    orphan.send(signal.SIGKILL)
            await asyncio.sleep(0.02)
        for path in (self.path / "pids").iterdir():
            path.unlink()

    def publish(self, environment: dict[str, str]) -> None:
        """Note where the engines are, for others on this machine who join: it holds passwords."""
        self._environment.touch(mode=0o600)
        self._environment.write_text(json.dumps(environment))

    def withdraw(self) -> None:
        """Strike that note out."""
        self._environment.unlink(missing_ok=True)

    @property
    def _environment(self) -> Path:
        return self.path / ENVIRONMENT

    def _note(self, name: str) -> Path:
        return self.path / "pids" / name


@dataclass(frozen=True)
class _Orphan:
    pid: int = 0
    identity: str | None = None
    signal: int = 0

    @property
    def alive(self) -> bool:
        return self.identity is not None and identity(self.pid) == self.identity

    def send(self, number: int) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def published(path: Path) -> dict[str, str]:
    """Read where the engines of a data folder are that run now.

    Raises:
        EngineError: none run, or they are just starting.
    """
    try:
        with (path / "lock").open() as lock:
            # Who runs them holds it.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        raise EngineError(NOBODY.format(path=path)) from None
    else:
        raise EngineError(NOBODY.format(path=path))
    try:
        return json.loads((path / ENVIRONMENT).read_text())
    except (OSError, ValueError):
        raise EngineError(f"What runs on {path} is not ready yet. Try again soon.") from None


def _take(lock: TextIO) -> None:
    """Lock a folder. Whoever only looks whether somebody has it holds the lock for a moment."""
    for _ in range(LOOKS):
        with contextlib.suppress(OSError):
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.01)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def opened(path: Path) -> Generator[Folder]:
    """Take a data folder, made if need be, for this process alone.

    Raises:
        EngineError: another process has it.
    """
    path = path.resolve()
    for part in (path, path / "logs", path / "pids"):
        part.mkdir(mode=0o700, parents=True, exist_ok=True)
    (path / ".gitignore").write_text("*\n")
    with (path / "lock").open("a+") as lock:
        try:
            _take(lock)
        except OSError:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            raise EngineError(
                f"{path} is in use by process {owner}. Stop that, or name another folder with --data."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        folder = Folder(path)
        # That of one who was killed.
        folder.withdraw()
        try:
            yield folder
        finally:
            folder.withdraw()
