"""Agents, each a whole project of another's shape."""

import pytest

from tests.shapes.agents import AGENTS
from tests.shapes.promises import Promises


@pytest.mark.parametrize("server", AGENTS, indirect=True, ids=lambda shape: shape.name)
class TestAgents(Promises):
    """Each of them keeps every promise."""
