"""Everything is logged in one form, by structlog's loggers and the standard library's."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE

SCRIPT = """
import logging, structlog
from durathread.logs import configure
configure({level!r}, json={json})
structlog.get_logger("ours").info("One", run_id="r1")
logging.getLogger("theirs").warning("Two of %s", 2, extra={{"run_id": "r2"}})
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger().exception("Three")
"""


async def lines(*, level: str = "INFO", as_json: bool = False) -> list[str]:
    """Log in a process of its own; return what it wrote."""
    environment = {name: value for name, value in os.environ.items() if name != "FORCE_COLOR"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SCRIPT.format(level=level, json=as_json)), stdout=PIPE, env=environment
    )
    out, _ = await process.communicate()
    return out.decode().splitlines()


async def test_lines_for_machines_are_json() -> None:
    one, two, three = [json.loads(line) for line in await lines(as_json=True)]
    assert (one["event"], one["level"], one["run_id"]) == ("One", "info", "r1")
    assert (two["event"], two["level"], two["run_id"]) == ("Two of 2", "warning", "r2")
    assert "ZeroDivisionError" in three["exception"]


async def test_lines_for_people_are_text() -> None:
    text = "\n".join(await lines())
    assert "One" in text
    assert "run_id=r1" in text
    assert "Two of 2" in text
    assert "ZeroDivisionError: division by zero" in text
    assert "\033" not in text


async def test_lines_below_the_level_are_dropped() -> None:
    assert len(await lines(level="warning", as_json=True)) == 2
