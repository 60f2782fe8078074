"""langgraph.json: what is refused, what is warned of, and the schema that editors take."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog

from durathread.config.langgraph_json import LanggraphJson, parse, read, schema
from durathread.errors import ConfigError

ROOT = Path(__file__).parents[2]
PROJECTS = sorted(
    path
    for folder in ("examples", "benchmarks", "tests")
    for path in (ROOT / folder).rglob("*.json")
    if "node_modules" not in path.parts and '"graphs": {' in path.read_text()
)


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_key_of_our_own_projects_is_unknown(path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        assert read(path).graphs
    assert logs == []


@pytest.mark.parametrize(
    ("content", "key", "meant"),
    [
        ({"stroe": {}}, "stroe", "store"),
        ({"store": {"ttl": {"default_tll": 5}}}, "store.ttl.default_tll", "default_ttl"),
        ({"checkpointer": {"ttl": {"stategy": "delete"}}}, "checkpointer.ttl.stategy", "strategy"),
        ({"webhooks": {"url": {"allowed_domain": ["a"]}}}, "webhooks.url.allowed_domain", "allowed_domains"),
        ({"entirely": 1}, "entirely", None),
    ],
)
def test_an_unknown_key_is_warned_of_wherever_it_is_with_the_one_that_was_meant(
    content: dict[str, Any], key: str, meant: str | None
) -> None:
    with structlog.testing.capture_logs() as logs:
        parse(content)
    assert [(entry["key"], entry["did_you_mean"]) for entry in logs] == [(key, meant)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            {"http": {"disable_stroe": True}},
            r"http\.disable_stroe is not a key\. Did you mean disable_store\? There are",
        ),
        (
            {"http": {"cors": {"allow_orgins": []}}},
            r"http\.cors\.allow_orgins is not a key\. Did you mean allow_origins",
        ),
        ({"http": []}, r"langgraph\.json: http must be an object"),
        ({"http": {"disable_store": "yes"}}, r"http\.disable_store must be true or false"),
        ({"webhooks": {"url": {"allowed_ports": 443}}}, r"webhooks\.url\.allowed_ports must be a list"),
        ({"webhooks": {"secret": 1}}, r"webhooks\.secret must be a string, or a list of strings"),
        ({"graphs": {"a": 1}}, r'graphs must be {"name": "./file.py:variable"}'),
        ({"dependencies": "."}, r"dependencies must be a list"),
        ({"env": 1}, r"env must be the path of a file, or an object"),
        ({"quotas": {"run": 1}}, r'quotas takes {"runs": 10'),
        ({"fairness": {}}, r"fairness needs"),
        ({"fairness": {"key": ""}}, r"fairness needs"),
        ({"temporal": {"signals": "no"}}, r"temporal needs"),
        ({"temporal": {"signal": True}}, r"temporal needs"),
        ({"store": {"ttl": {"sweep_interval_minutes": True}}}, r"store\.ttl\.sweep_interval_minutes must be a number"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place_and_what_is_needed(content: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(content)


@pytest.mark.parametrize("content", [dict.fromkeys(LanggraphJson.model_fields), {"$schema": "x"}, {}])
def test_null_asks_for_nothing(content: dict[str, Any]) -> None:
    with structlog.testing.capture_logs() as logs:
        assert parse(content).model_dump() | content == LanggraphJson().model_dump() | content
    assert logs == []


def test_the_command_line_prints_the_schema_for_editors() -> None:
    program = Path(sys.executable).with_name("durathread")
    printed = subprocess.run([program, "schema"], capture_output=True, check=True, text=True).stdout
    assert json.loads(printed) == schema()
    assert set(schema()["properties"]) == {*LanggraphJson.model_fields, "$schema"}
    # An editor marks what the server warns of.
    assert schema()["additionalProperties"] is False
    assert schema()["$defs"]["Http"]["additionalProperties"] is False
