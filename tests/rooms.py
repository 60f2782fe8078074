"""Reads from the code which room imports which, and draws it. `python -m tests.rooms` puts the picture into its page."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "durathread"
PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
PICTURE = re.compile(r"```mermaid\n(.*?)\n```", re.DOTALL)
# What is everywhere. An arrow from every room would say nothing.
FOUNDATION = {"records", "errors", "encode"}


def rooms() -> dict[str, list[Path]]:
    """Read the rooms: the folders and loose modules of the package, each with its files."""
    files: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.iterdir()):
        if path.name != "__init__.py" and (path.suffix == ".py" or (path / "__init__.py").exists()):
            files[path.stem] = [path] if path.suffix else sorted(path.rglob("*.py"))
    return files


def imported(path: Path) -> Iterator[str]:
    """Read which rooms a file imports, also within its functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "durathread":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("durathread."):
            yield str(node.module).split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("durathread."))


def arrows() -> dict[str, set[str]]:
    """Read which rooms each room imports."""
    named = rooms()
    return {
        room: {other for path in files for other in imported(path) if other in named} - {room, *FOUNDATION}
        for room, files in named.items()
        if room not in FOUNDATION
    }


def below(room: str, edges: dict[str, set[str]]) -> set[str]:
    """Find every room that a room reaches."""
    reached: set[str] = set()
    ahead = set(edges[room])
    while ahead:
        reached |= ahead
        ahead = {other for each in ahead for other in edges[each]} - reached
    return reached


def drawn() -> list[tuple[str, str]]:
    """List the arrows of the picture: those that do not follow from others."""
    edges = arrows()
    reached = {room: below(room, edges) for room in edges}
    return [
        (room, other)
        for room in sorted(edges)
        for other in sorted(edges[room])
        if not any(other in reached[between] for between in edges[room])
    ]


def picture() -> str:
    """Draw the rooms in Mermaid."""
    return "\n".join(["flowchart TD", *(f"    {room} --> {other}" for room, other in drawn())])


if __name__ == "__main__":
    text = PAGE.read_text()
    PAGE.write_text(PICTURE.sub(lambda _: f"```mermaid\n{picture()}\n```", text))
