"""Graphs that are functions: `@entrypoint` and `@task`."""

import asyncio
from pathlib import Path
from typing import Any

from langgraph.func import entrypoint, task
from langgraph.types import RetryPolicy, StreamWriter, interrupt


def lines(path: Path) -> list[str]:
    """Read what was traced."""
    return path.read_text().splitlines()


def trace(do: dict[str, Any], line: str) -> None:
    """Leave a line where a test can read it."""
    if path := do.get("trace"):
        with Path(path).open("a") as file:
            file.write(line + "\n")


@task
async def work(name: str, do: dict[str, Any]) -> str:
    """Return a name; `until` says which file each task waits for, `ended` which one it leaves when it is cancelled."""
    trace(do, name)
    try:
        while (gate := do.get("until", {}).get(name)) and not Path(gate).exists():  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        if path := do.get("ended"):
            Path(path).touch()  # noqa: ASYNC240
        raise
    return name


@task(retry_policy=RetryPolicy(initial_interval=0.01, jitter=False, max_attempts=5, retry_on=ValueError))
async def flaky(do: dict[str, Any]) -> str:
    """Fail twice."""
    trace(do, "flaky")
    if lines(Path(do["trace"])).count("flaky") < 3:
        raise ValueError("not yet")
    return "flaky"


@entrypoint()
async def steps(given: dict[str, Any], *, previous: Any = None, writer: StreamWriter) -> Any:
    """Do a, b and c, and remember what was done before. `asks`: a question after a; `flaky`: a task that needs retries."""
    do = given.get("do", {})
    log = [*((previous or {}).get("log", [])), *given.get("log", [])]
    for name in ("a", "b", "c"):
        log.append(await work(name, do))
        writer({"done": name})
        if name == "a" and do.get("asks"):
            log.append(interrupt({"question": do["asks"]}))
    if do.get("flaky"):
        log.append(await flaky(do))
    return {"log": log}


@entrypoint()
def saving(number: int, *, previous: int | None = None) -> Any:
    """Return what was saved before, and save something else."""
    return entrypoint.final(value=previous or 0, save=2 * number)


@entrypoint()
async def texts(text: str) -> str:
    """Take and return what is no object."""
    return text.upper() + str(interrupt("sure?"))
