"""The four folders at the root import as `durathread.*` only, and are in the wheel."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINKS = {
    "src/durathread/workflows": "../../workflows",
    "src/durathread/activities": "../../activities",
    "src/durathread/api": "../../api",
    "src/durathread/worker.py": "../../worker.py",
}
BARE = ("workflows", "activities", "api", "worker")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Build the wheel from the files that git would commit, and list what it holds."""
    checkout = tmp_path_factory.mktemp("checkout")
    # The build writes beside its sources, and other tests read those.
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, tracked):
        source, target = ROOT / name, checkout / name
        if not source.is_symlink() and not source.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(source.readlink())
        else:
            target.write_bytes(source.read_bytes())
    dist = tmp_path_factory.mktemp("dist")
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(dist), str(checkout)],
        cwd=dist, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = dist.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


@pytest.mark.parametrize("name", BARE)
def test_a_bare_name_is_not_importable_outside_the_checkout(name: str, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is not None)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


@pytest.mark.parametrize(("link", "target"), LINKS.items())
def test_the_links_are_committed_as_links(link: str, target: str) -> None:
    staged = subprocess.run(
        ["git", "ls-files", "--stage", link], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert staged.split()[0] == "120000"
    assert os.readlink(ROOT / link) == target


def test_the_wheel_holds_what_the_links_show(wheel: list[str]) -> None:
    folders = [ROOT / name for name in ("workflows", "activities", "api")]
    sources = [path.relative_to(ROOT).as_posix() for folder in folders for path in folder.rglob("*.py")]
    expected = {f"durathread/{source}" for source in [*sources, "worker.py"]}
    assert expected <= set(wheel)


def test_the_wheel_holds_the_package_its_type_marker_and_its_migrations(wheel: list[str]) -> None:
    package = ROOT / "src" / "durathread"
    patterns = ("*.py", "*.sql", "py.typed")
    files = {path for pattern in patterns for path in package.rglob(pattern)}
    expected = {f"durathread/{path.relative_to(package).as_posix()}" for path in files}
    assert "durathread/py.typed" in expected
    assert expected <= set(wheel)


def test_the_wheel_owns_no_generic_name(wheel: list[str]) -> None:
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"durathread"}
