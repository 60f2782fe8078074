"""docs/architecture.md is held to the code: its picture, its rooms, and what each room says of itself."""

import ast
import re
from pathlib import Path

import pytest

from tests.rooms import PAGE, PICTURE, arrows, below, picture, rooms

PARENTS = sorted({path for files in rooms().values() for path in files if path.name == "__init__.py"})


def test_the_picture_is_drawn_from_the_code() -> None:
    found = PICTURE.search(PAGE.read_text())
    assert found, "docs/architecture.md has no picture"
    assert found[1] == picture(), "draw it anew: python -m tests.rooms"


def test_no_room_imports_itself_through_others() -> None:
    edges = arrows()
    assert [room for room in edges if room in below(room, edges)] == []


def test_each_room_has_a_paragraph_and_each_paragraph_a_room() -> None:
    assert sorted(re.findall(r"\*\*`(\w+)`\*\*:", PAGE.read_text())) == sorted(rooms())


@pytest.mark.parametrize("path", PARENTS, ids=lambda path: path.parent.name)
def test_a_package_says_what_it_is_for_and_imports_nothing(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    assert len(tree.body) == 1
