"""Requests made at random from our own OpenAPI description: no 5xx, and no answer that it does not describe."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient

from tests.stack import Stack

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
# Streams of threads never end.
ENDLESS = r"^/threads/\{thread_id\}/stream"
SECONDS = 400
HOOKS = Path(__file__).with_name("fuzzing.py")
KINDS = ("accepted", "unreachable", "conflicts", "rejected")
# This share of requests must be carried out, or the fuzzer tries only what is refused.
CARRIED_OUT = 0.3
# Every value at the edge of each field, besides some at random; where requests start runs, of which each takes its time,
# more at random instead.
THOROUGH, RANDOM = ("coverage,fuzzing", "4"), ("fuzzing", "12")
PLANS = {
    "/assistants": THOROUGH,
    "/store": THOROUGH,
    "/(ok|info|metrics)?$": THOROUGH,
    "/threads": RANDOM,
    "/runs": RANDOM,
}


async def existing(client: LangGraphClient) -> dict[str, str]:
    """Make a thread with a run, and a cron, and name them as paths do."""
    assistant = await client.assistants.create("agent")
    thread = await client.threads.create()
    run = await client.runs.create(thread["thread_id"], "agent", input={"log": ["in"]}, stream_resumable=True)
    await client.runs.join(thread["thread_id"], run["run_id"])
    cron: Any = await client.crons.create("agent", schedule="0 0 1 1 *")
    return {
        "cron_id": cron["cron_id"],
        "thread_id": thread["thread_id"],
        "run_id": run["run_id"],
        "assistant_id": assistant["assistant_id"],
    }


def carried_out(report: Any) -> float:
    """Return which share of the requests was not refused."""
    phases = [phase for operation in report["valid_rates"].values() for phase in operation.values()]
    return sum(phase["accepted"] for phase in phases) / sum(phase[kind] for phase in phases for kind in KINDS)


@pytest.mark.parametrize("resource", PLANS)
async def test_no_request_breaks_the_server_or_surprises_a_reader_of_its_description(
    server: Stack, client: LangGraphClient, tmp_path: Path, resource: str
) -> None:
    report = tmp_path / "report.json"
    phases, examples = PLANS[resource]
    arguments = [
        *("run", f"{server.url}/openapi.json"),
        *("--checks", CHECKS, "--phases", phases, "--max-examples", examples, "--seed", "7"),
        *("--exclude-path-regex", ENDLESS, "--request-timeout", "60", "--no-color", "--warnings", "off"),
        *(
            "--continue-on-failure",
            "--wait-for-schema",
            "60",
            "--suppress-health-check",
            "too_slow",
            "--generation-database",
            "none",
            "--report-json-path",
            str(report),
        ),
        *("--include-path-regex", f"^{resource}"),
    ]
    program = "from schemathesis.cli import schemathesis; schemathesis()"
    known = await existing(client)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, *arguments),
        cwd=tmp_path,
        env={**os.environ, "FUZZ_KNOWN": json.dumps(known), "SCHEMATHESIS_HOOKS": str(HOOKS)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, output.decode()[-20_000:]
    assert carried_out(json.loads(report.read_text())) > CARRIED_OUT
