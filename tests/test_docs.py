"""The README keeps its promises: every setting is in it, and every method of the SDK, rightly said to be served or not."""

import re
from pathlib import Path

import pytest
from langgraph_sdk import get_client

from durathread.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
CLIENTS = ("assistants", "threads", "runs", "crons", "store")


def sdk_methods(name: str) -> set[str]:
    """List the methods of one of the SDK's clients."""
    client = getattr(get_client(url="http://localhost"), name)
    return {method for method in dir(client) if not method.startswith("_") and callable(getattr(client, method))}


def coverage(name: str) -> tuple[list[str], list[str]]:
    """Read what the README says of one of the SDK's clients: the methods served, and those not yet."""
    row = re.search(rf"^\| `{name}` \| (.*) \| (.*) \|$", README, re.MULTILINE)
    assert row, f"README.md has no row for the SDK's client {name}"
    return re.findall(r"`(\w+)`", row[1]), re.findall(r"`(\w+)`", row[2])


def row_of(field: str) -> str:
    """Write the row that the README must have for a setting."""
    info = Settings.model_fields[field]
    names = ", ".join(f"`{name}`" for name in getattr(info.validation_alias, "choices", [info.validation_alias]))
    default = str(info.default)
    return f"| `{field}` | {names} | {f'`{default}`' if default else ''} | {info.description} |"


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_has_its_row_in_the_readme(field: str) -> None:
    assert row_of(field) in README.splitlines()


@pytest.mark.parametrize("name", CLIENTS)
def test_every_method_of_the_sdk_is_said_to_be_served_or_not(name: str) -> None:
    served, missing = coverage(name)
    assert sorted(served + missing) == sorted(sdk_methods(name))


def test_links_in_the_documentation_lead_somewhere() -> None:
    for page in (
        ROOT / "README.md",
        *ROOT.glob("docs/**/*.md"),
        ROOT / "CONTRIBUTING.md",
        ROOT / "benchmarks/README.md",
    ):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"


def test_decision_records_have_their_four_parts() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [page.name[:4] for page in pages] == [f"{n:04}" for n in range(1, len(pages) + 1)]
    for page in pages:
        headings = re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)
        assert {"Context", "Decision", "Consequences", "Alternatives"} <= set(headings), page.name
