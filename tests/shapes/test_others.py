"""Projects of other shapes than agents."""

import pytest

from tests.shapes.others import OTHERS
from tests.shapes.promises import Promises


@pytest.mark.parametrize("server", OTHERS, indirect=True, ids=lambda shape: shape.name)
class TestOthers(Promises):
    """Each of them keeps every promise."""
