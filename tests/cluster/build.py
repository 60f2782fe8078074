"""Temporal's server and its SQL tool, built from their Go module: the programs of the images that Compose names."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from durathread.errors import EngineError
from tests.cluster.compose import ROOT, default

MODULE = "go.temporal.io/server"
# As the images are built.
OPTIONS = ("-tags", "disable_grpc_modules", "-ldflags", "-s -w")
PACKAGES = {"temporal-server": "cmd/server", "temporal-sql-tool": "cmd/tools/sql"}
# What the server's image starts, and the template in which the server puts its environment variables.
FILES = {
    "entrypoint.sh": "docker/scripts/sh/entrypoint.sh",
    "template.yaml": "common/config/config_template_embedded.yaml",
}


@dataclass(frozen=True)
class Programs:
    """A folder for PATH, with `temporal-server` and `temporal-sql-tool`, and files of the server's image."""

    folder: Path

    @property
    def entrypoint(self) -> Path:
        """What the server's image starts."""
        return self.folder / "entrypoint.sh"

    @property
    def template(self) -> Path:
        """The template of the server's configuration."""
        return self.folder / "template.yaml"

    @property
    def complete(self) -> bool:
        """Say whether all of them are there."""
        return all((self.folder / name).exists() for name in (*FILES, *PACKAGES))


def version() -> str:
    """Return the version of Temporal that Compose names."""
    return default("TEMPORAL_VERSION")


def programs() -> Programs:
    """Find the programs of that version.

    Raises:
        EngineError: they have not been built.
    """
    found = Programs(ROOT / ".cluster" / f"temporal-{version()}")
    if not found.complete:
        raise EngineError("Temporal's server is not built: python -m tests.cluster.build")
    return found


def build() -> Programs:
    """Build what is not built yet: some minutes, the first time.

    Raises:
        EngineError: there is no Go, or it failed.
    """
    found = Programs(ROOT / ".cluster" / f"temporal-{version()}")
    if found.complete:
        return found
    if shutil.which("go") is None:
        raise EngineError(f"Go is needed to build {MODULE} {version()}: put `go` on the path (https://go.dev/dl).")
    found.folder.mkdir(parents=True, exist_ok=True)
    sys.stdout.write(f"Building {MODULE} {version()}: some minutes, the first time.\n")
    sys.stdout.flush()
    _go(found.folder, "install", *OPTIONS, *(f"{MODULE}/{package}@v{version()}" for package in PACKAGES.values()))
    source = json.loads(_go(found.folder, "mod", "download", "-json", f"{MODULE}@v{version()}"))
    for name, path in FILES.items():
        shutil.copyfile(Path(source["Dir"]) / path, found.folder / name)
    for name, package in PACKAGES.items():
        # `go install` names a program after its folder.
        (found.folder / Path(package).name).replace(found.folder / name)
    return found


def _go(folder: Path, *arguments: str) -> str:
    # Outside of any module, with the module's own go.mod; the images link nothing of C.
    environment = {**os.environ, "GOBIN": str(folder), "CGO_ENABLED": "0", "GO111MODULE": "on"}
    done = subprocess.run(
        ["go", *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise EngineError(f"go {arguments[0]} failed; what it says is above.")
    return done.stdout


def main() -> int:
    """Build, and say what failed."""
    try:
        build()
    except EngineError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
