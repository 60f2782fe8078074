"""The package can be installed beside what its users have."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

NEIGHBOURS = {
    "the vendor's command line with its server": ["langgraph-cli[inmem]"],
    "deep agents and model providers": ["deepagents", "langchain-openai", "langchain-anthropic"],
    "Temporal's AI plugins": ["temporalio[openai-agents,pydantic,langgraph]"],
    "Temporal's plugin for ADK": ["temporalio[google-adk]"],
    "Supabase": ["supabase"],
    "prebuilt agents": ["langgraph-supervisor", "langgraph-swarm", "langmem"],
}


def resolve(requirements: list[str], folder: Path) -> dict[str, str]:
    """Return the versions that installing all of them together would bring; nothing is installed."""
    wanted = folder / "requirements.in"
    wanted.write_text("\n".join(requirements))
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--python-version", "3.11"]
    found = subprocess.run([*command, str(wanted)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return dict(re.findall(r"^([\w.-]+)(?:\[[^\]]*\])?==(\S+)", found.stdout, flags=re.MULTILINE))


@pytest.mark.parametrize("neighbours", NEIGHBOURS.values(), ids=NEIGHBOURS)
def test_it_can_be_installed_beside(neighbours: list[str], tmp_path: Path) -> None:
    versions = resolve([f"durathread[embedded] @ file://{ROOT}", *neighbours], tmp_path)
    assert versions.keys() >= {"temporalio", "langgraph", "fastapi", "psycopg", "redis"}
    assert versions.keys() >= {re.split(r"[\[>=]", name)[0] for name in neighbours}
