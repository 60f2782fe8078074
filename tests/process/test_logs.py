"""Everything is logged in one form, by structlog's loggers and the standard library's."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE

SCRIPT = """
import logging, structlog
from durathread.process.logs import configure
configure({level!r}, json={json})
structlog.get_logger("ours").info("One", run_id="r1")
logging.getLogger("theirs").warning("Two of %s", 2, extra={{"run_id": "r2"}})
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger().exception("Three")
"""


HOSTILE = """
import structlog
from durathread.process.logs import configure
configure({level!r}, json={json})

class Shy:
    def __repr__(self):
        raise ValueError("no")

structlog.get_logger().info("first\\nforged event \\x1b[31m", shy=Shy(), half="\\ud800", theirs="a\\rforged")
try:
    raise ValueError("one\\nforged two\\x07")
except ValueError:
    structlog.get_logger().exception("second")
structlog.get_logger().info("still logged")
"""


async def lines(*, level: str = "INFO", as_json: bool = False, script: str = SCRIPT) -> list[str]:
    """Log in a process of its own; return what it wrote."""
    environment = {name: value for name, value in os.environ.items() if name != "FORCE_COLOR"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script.format(level=level, json=as_json)), stdout=PIPE, env=environment
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


async def test_what_is_logged_can_neither_forge_lines_nor_steer_a_terminal() -> None:
    text = await lines(script=HOSTILE)
    assert not any(line.startswith("forged") for line in text)
    whole = "\n".join(text)
    assert "\\nforged event" in whole
    assert "\\x1b[31m" in whole
    assert "\\ud800" in whole
    assert "<Shy>" in whole
    assert not any(character < " " for line in text for character in line)
    assert "ValueError: one\n  forged two" in whole
    assert "still logged" in whole


async def test_lines_for_machines_hold_what_is_hostile_as_it_is() -> None:
    first, second, third = [json.loads(line) for line in await lines(as_json=True, script=HOSTILE)]
    assert first["event"] == "first\nforged event \x1b[31m"
    assert first["shy"] == "<Shy>"
    assert "forged two" in second["exception"]
    assert third["event"] == "still logged"


async def test_lines_below_the_level_are_dropped() -> None:
    assert len(await lines(level="warning", as_json=True)) == 2


NESTED = """
import structlog
from durathread.process.logs import configure
configure({level!r}, json={json})

class Raw:
    def __repr__(self):
        return "\\x1b[31m\\nforged nested"

log = structlog.get_logger()
log.warning("x" * 100_000, nested=[Raw()], deep=dict(raw=Raw()), turned="a\\u202eb")
log.warning("many", values=["y" * 100_000])
"""


async def test_what_lists_hold_forges_nothing_and_no_line_is_endless() -> None:
    for as_json in (False, True):
        text = await lines(as_json=as_json, script=NESTED)
        assert not any(line.startswith("forged") for line in text)
        assert max(map(len, text)) < 10_000
    text = await lines(script=NESTED)
    assert not any(character in line for line in text for character in "\x1b\u202e")
