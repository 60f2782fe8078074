"""The configurable parts of the agent."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import Annotated

from react_agent import prompts


@dataclass(kw_only=True)
class Context:
    """What can be set, run by run."""

    system_prompt: str = field(
        default=prompts.SYSTEM_PROMPT,
        metadata={"description": "What the agent is told to be."},
    )
    model: Annotated[str, {"__template_metadata__": {"kind": "llm"}}] = field(
        default="openai/gpt-4o-mini",
        metadata={"description": "The model, as provider/name."},
    )
    max_search_results: int = field(
        default=10,
        metadata={"description": "How many results a search may have."},
    )

    def __post_init__(self) -> None:
        """Let the environment set what nobody has passed."""
        for f in fields(self):
            if f.init and getattr(self, f.name) == f.default:
                setattr(self, f.name, os.environ.get(f.name.upper(), f.default))
