"""Imports the modules of users' projects, by their paths or their names."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

# What says that a project is to be installed.
INSTALLED_BY = ("pyproject.toml", "setup.py", "setup.cfg")
# What users' code may raise when it is imported or called: modules that are scripts as well, and argparse, exit.
RAISED = (Exception, SystemExit)


def make_importable(dependencies: Sequence[str], folder: Path) -> None:
    """Make local dependencies importable as if they were installed; other packages are the user's to install."""
    for place in (folder, *(folder / name for name in dependencies if name.startswith("."))):
        for root in (*_packages(place), place):
            resolved = str(root.resolve())
            if root.is_dir() and resolved not in sys.path:
                sys.path.insert(0, resolved)


def _packages(place: Path) -> Iterator[Path]:
    """Find where a project that is not installed keeps its packages, if that is not beside its pyproject.toml."""
    source = place / "src"
    if not (source / "__init__.py").exists() and any((place / name).is_file() for name in INSTALLED_BY):
        yield source


def import_source(where: str, folder: Path) -> ModuleType:
    """Import what langgraph.json names: `package.module`, or `./file.py`.

    A file is imported under its own name where it has one: classes in checkpoints are then found again however they are
    imported, its relative imports work, and it is not imported twice.
    """
    if not (where.endswith(".py") or "/" in where):
        return importlib.import_module(where)
    file = (folder / where).resolve()
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist")
    module = _found(file)
    # Classes in checkpoints of before have this name.
    sys.modules.setdefault(_private(file), module)
    return module


def _found(file: Path) -> ModuleType:
    for name in _names(file):
        if name in sys.modules and getattr(sys.modules[name], "__file__", None) == str(file):
            return sys.modules[name]
    for name in _names(file):
        if _is_found(name, file):
            return _imported(name, file)
    return _loaded(file)


def _imported(name: str, file: Path) -> ModuleType:
    """Import a module that is in packages: a file may be of use although its package is not."""
    package = name.rpartition(".")[0]
    try:
        if package:
            importlib.import_module(package)
    except RAISED as error:
        try:
            return _loaded(file)
        except RAISED:
            raise error from None
    return importlib.import_module(name)


def _names(file: Path) -> Iterator[str]:
    """List the names of a file, that of the innermost folder on the path first."""
    for root in sorted(sys.path, key=len, reverse=True):
        if root and file.is_relative_to(root):
            yield ".".join(file.relative_to(root).with_suffix("").parts)


def _is_found(name: str, file: Path) -> bool:
    """Say whether an import of a name would find a file, and not what is called alike elsewhere."""
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        return False
    try:
        spec = importlib.util.find_spec(parts[0])
    except ValueError:
        return False
    if spec is None or len(parts) == 1:
        return spec is not None and spec.origin == str(file)
    return str(file.parents[len(parts) - 2]) in (spec.submodule_search_locations or ())


def _private(file: Path) -> str:
    return "durathread_graph_" + "_".join(file.relative_to(file.anchor).with_suffix("").parts[-3:])


def _loaded(file: Path) -> ModuleType:
    name = _private(file)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
