"""What the command line answers before anything is started."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from importlib.metadata import version
from pathlib import Path

from durathread.embedded.folder import opened

COMMAND = str(Path(sys.executable).with_name("durathread"))


async def answer(*words: str, cwd: Path | None = None, **variables: str) -> tuple[int | None, str, str]:
    """Run the command; return its exit code, and what it wrote to stdout and stderr."""
    environment = {**os.environ, **variables}
    process = await asyncio.create_subprocess_exec(COMMAND, *words, stdout=PIPE, stderr=PIPE, cwd=cwd, env=environment)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_it_knows_its_version() -> None:
    assert await answer("--version") == (0, f"durathread {version('durathread')}\n", "")


async def test_help_names_every_command() -> None:
    code, out, _ = await answer("--help")
    assert code == 0
    assert all(f" {name} " in out for name in ("dev", "env", "check", "api", "worker", "migrate", "verify"))


async def test_a_missing_langgraph_json_is_named(tmp_path: Path) -> None:
    expected = "Error: langgraph.json cannot be read (No such file or directory). Name yours with --config.\n"
    assert await answer("dev", cwd=tmp_path) == (1, "", expected)


async def test_a_langgraph_json_that_is_not_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    code, _, err = await answer("dev", "--config", "broken.json", cwd=tmp_path)
    assert code == 1
    assert err.startswith("Error: broken.json is not JSON: ")


async def test_an_unknown_option_is_refused() -> None:
    code, _, err = await answer("dev", "--nonsense")
    assert code == 2
    assert "--nonsense" in err


async def test_a_setting_that_cannot_be_is_named() -> None:
    code, _, err = await answer("worker", N_JOBS_PER_WORKER="none")
    assert code == 1
    assert err.startswith("Error: ")
    assert "N_JOBS_PER_WORKER" in err
    assert "Traceback" not in err


async def test_a_database_that_is_not_there_is_said_to_be_missing() -> None:
    code, _, err = await answer(
        "migrate", DATABASE_URL="postgresql://postgres@127.0.0.1:1/nowhere", DURATHREAD_START_PATIENCE="0"
    )
    assert code == 1
    assert err.startswith("Error: Postgres cannot be used: ")
    assert "Traceback" not in err


async def test_the_environment_of_a_server_that_does_not_run_is_refused(tmp_path: Path) -> None:
    said = "Error: No `durathread dev` runs on .durathread. Start it, or name its folder with --data.\n"
    assert await answer("env", cwd=tmp_path) == (1, "", said)
    with opened(tmp_path / ".durathread") as folder:
        assert await answer("env", cwd=tmp_path) == (
            1,
            "",
            "Error: What runs on .durathread is not ready yet. Try again soon.\n",
        )
        folder.publish({"DATABASE_URL": "postgresql://it's?a=b"})
        assert await answer("env", cwd=tmp_path) == (0, "export DATABASE_URL='postgresql://it'\"'\"'s?a=b'\n", "")
    assert await answer("env", cwd=tmp_path) == (1, "", said)
