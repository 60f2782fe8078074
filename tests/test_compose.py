"""The Compose file and the image have the form that a deployment relies on."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from pydantic import AliasChoices

from durathread.config.settings import Settings
from durathread.embedded.temporal import DYNAMIC_CONFIG
from tests.cluster.compose import PASSWORDS, default, services

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ROLES = ("api", "worker", "migrate")
DEPLOYED: dict[str, list[dict[str, Any]]] = yaml.safe_load(
    (ROOT / "docker" / "temporal-dynamic-config.yaml").read_text()
)
ENTRIES = ("workflows/", "activities/", "api/", "worker.py", "src/")


def test_the_engines_and_the_roles_of_the_server_are_there() -> None:
    assert {"api", "worker", "migrate", "postgres", "valkey", "temporal", "temporal-ui"} <= set(SERVICES)
    assert SERVICES["worker"]["deploy"]["replicas"] == 2


@pytest.mark.parametrize("name", ROLES)
def test_each_role_is_a_console_script(name: str) -> None:
    assert SERVICES[name]["command"] == ["durathread", name]


@pytest.mark.parametrize("name", ROLES)
def test_a_role_reads_every_variable_that_it_is_given(name: str) -> None:
    read = {alias for field in Settings.model_fields.values() for alias in aliases(field.validation_alias)}
    # Temporal's client and Postgres' read their own; keys are no settings, so that nothing shows them.
    read |= {"TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "PGPASSWORD", "LANGGRAPH_AES_KEY", "DURATHREAD_OLD_AES_KEYS"}
    assert set(SERVICES[name]["environment"]) - read == set()


def test_a_worker_is_told_where_the_api_is_which_is_not_its_own_machine() -> None:
    url = urlsplit(SERVICES["worker"]["environment"]["DURATHREAD_API_URL"])
    assert url.hostname == "api"
    assert url.port == Settings.model_fields["port"].default


def aliases(alias: Any) -> list[Any]:
    """List the environment variables of a setting."""
    assert isinstance(alias, AliasChoices)
    return alias.choices


@pytest.mark.parametrize("name", ROLES)
def test_a_password_is_not_part_of_a_url_whose_characters_it_would_have_to_escape(name: str) -> None:
    url = services({"DURATHREAD_PASSWORD": "p@ss/w:rd"})[name]["environment"]["DATABASE_URL"]
    assert urlsplit(url).password is None
    assert urlsplit(url).hostname == "postgres"
    assert (
        SERVICES[name]["environment"]["PGPASSWORD"] == SERVICES["postgres-users"]["environment"]["DURATHREAD_PASSWORD"]
    )


@pytest.mark.parametrize("name", ["postgres-users", "temporal-schema", "temporal-namespace"])
def test_a_script_gets_every_variable_that_it_needs(name: str) -> None:
    _, path = SERVICES[name]["entrypoint"]
    needed = set(re.findall(r"\$([A-Z_]+)", (ROOT / path.lstrip("/")).read_text()))
    assert needed <= set(SERVICES[name]["environment"])


def test_an_image_has_a_version() -> None:
    images = {service["image"] for name, service in services().items() if name not in ROLES}
    assert all(re.fullmatch(r"[\w./-]+:(\d+(\.\d+)*|pg\d+)", image) for image in images)


def test_the_embedded_temporal_is_that_of_compose() -> None:
    """So that what tests show on one holds for the other."""
    shown = subprocess.run(
        [Path(sys.executable).with_name("temporal"), "--version"], capture_output=True, text=True, check=True
    ).stdout
    assert f"Server {default('TEMPORAL_VERSION')}" in shown
    assert f"UI {default('TEMPORAL_UI_VERSION')}" in shown


def test_ports_are_opened_on_the_loopback_address_unless_asked_otherwise() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(ports) == {"api", "temporal-ui"}
    assert all(port.startswith("${DURATHREAD_BIND:-127.0.0.1}:") for port in ports["api"])


def test_temporals_ui_is_opened_by_a_variable_of_its_own_and_changes_nothing() -> None:
    [port] = SERVICES["temporal-ui"]["ports"]
    assert port.startswith("${TEMPORAL_UI_BIND:-127.0.0.1}:")
    assert SERVICES["temporal-ui"]["environment"]["TEMPORAL_DISABLE_WRITE_ACTIONS"] == "true"


def test_passwords_must_be_set_and_each_service_has_its_own() -> None:
    assert set(PASSWORDS) == set(re.findall(r"\$\{(\w+_PASSWORD):\?", (ROOT / "docker-compose.yml").read_text()))
    assert not re.search(r"PASSWORD:-", (ROOT / "docker-compose.yml").read_text())
    given = {name: name.lower() for name in PASSWORDS}
    found = services(given)
    assert found["api"]["environment"]["PGPASSWORD"] == given["DURATHREAD_PASSWORD"]
    assert found["api"]["environment"]["REDIS_URL"] == f"redis://:{given['VALKEY_PASSWORD']}@valkey:6379/0"
    temporal = found["temporal"]["environment"]
    assert (temporal["POSTGRES_USER"], temporal["POSTGRES_PWD"]) == ("temporal", given["TEMPORAL_PASSWORD"])
    holders = {name for name, service in found.items() if given["POSTGRES_PASSWORD"] in str(service)}
    assert holders == {"postgres", "postgres-users"}


def test_passwords_are_made_by_a_script() -> None:
    made = [
        subprocess.run([ROOT / "docker" / "passwords.sh"], capture_output=True, text=True, check=True) for _ in "12"
    ]
    first, second = [dict(line.split("=") for line in each.stdout.splitlines()) for each in made]
    assert set(first) == set(PASSWORDS)
    assert all(re.fullmatch(r"[0-9a-f]{48}", password) for password in first.values())
    assert not set(first.values()) & set(second.values())


@pytest.mark.parametrize("name", ["api", "worker", "postgres", "valkey", "temporal"])
def test_what_others_wait_for_has_a_healthcheck(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


def test_a_worker_is_asked_for_its_health_where_it_answers() -> None:
    environment = SERVICES["worker"]["environment"]
    assert f"http://{environment['DURATHREAD_HEALTH_ADDRESS']}/ok" in SERVICES["worker"]["healthcheck"]["test"][-1]


def test_dependencies_name_conditions_that_their_services_can_meet() -> None:
    for name, service in SERVICES.items():
        for other, needs in service.get("depends_on", {}).items():
            has_healthcheck = "healthcheck" in SERVICES[other]
            expected = "service_healthy" if has_healthcheck else "service_completed_successfully"
            assert needs["condition"] == expected, f"{name} -> {other}"


@pytest.mark.parametrize("name", ["api", "worker"])
def test_the_server_starts_after_the_migrations(name: str) -> None:
    assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_one_shot_services_are_not_started_again_when_they_are_done() -> None:
    for name in ("migrate", "temporal-schema", "temporal-namespace"):
        assert str(SERVICES[name]["restart"]).startswith("on-failure")


def test_temporal_reads_our_dynamic_configuration() -> None:
    target = SERVICES["temporal"]["environment"]["DYNAMIC_CONFIG_FILE_PATH"]
    assert f"./docker/temporal-dynamic-config.yaml:{target}:ro" in SERVICES["temporal"]["volumes"]


def test_a_mounted_file_of_ours_exists() -> None:
    sources = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if volume.startswith("./")
    }
    assert sources
    assert all((ROOT / source).exists() for source in sources)


def test_the_embedded_temporal_is_started_with_the_same_dynamic_configuration() -> None:
    embedded = {key: json.loads(value) for key, _, value in (item.partition("=") for item in DYNAMIC_CONFIG)}
    deployed = {key: values[0]["value"] for key, values in DEPLOYED.items()}
    assert embedded == deployed


def test_a_dynamic_value_applies_without_constraints() -> None:
    assert all(len(values) == 1 and set(values[0]) == {"value"} for values in DEPLOYED.values())


def test_a_stopping_worker_is_given_longer_than_its_grace_period() -> None:
    grace = int(str(SERVICES["worker"]["stop_grace_period"]).removesuffix("s"))
    assert grace > Settings.model_fields["shutdown_grace"].default


def test_the_image_installs_the_versions_of_the_lock() -> None:
    build = (ROOT / "Dockerfile").read_text().split("FROM ")[1]
    copied = [line for line in build.splitlines() if line.startswith("COPY ") and "requirements.lock" in line]
    assert len(copied) == 1
    assert "PIP_CONSTRAINT=/build/requirements.lock" in build
    assert build.index("PIP_CONSTRAINT") < build.index("pip install")
    # An isolated build would take the newest setuptools.
    assert "--no-build-isolation .[encryption]" in build
    assert "!requirements.lock" in (ROOT / ".dockerignore").read_text().splitlines()


def test_the_image_copies_the_four_entries_and_the_links_to_them() -> None:
    copied = {line.split()[1] for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("COPY ")}
    assert set(ENTRIES) <= copied
    let_through = (ROOT / ".dockerignore").read_text().splitlines()
    assert all(f"!{entry.rstrip('/')}" in let_through for entry in ENTRIES)


def test_the_image_starts_nothing_from_a_checkout() -> None:
    last = (ROOT / "Dockerfile").read_text().split("FROM ")[-1]
    assert "python -m" not in last
    assert "/build" not in last.replace("--from=build", "")


def test_passwords_are_written_once_for_their_owner_and_never_committed(tmp_path: Path) -> None:
    section = (ROOT / "README.md").read_text().partition("\n## Deployment\n")[2]
    command = next(line for line in section.splitlines() if "passwords.sh" in line)
    command = command.replace("docker/passwords.sh", str(ROOT / "docker" / "passwords.sh"))
    written = list[str]()
    for _ in "12":
        subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
        written.append((tmp_path / ".env").read_text())
    assert written[0] == written[1]
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()
