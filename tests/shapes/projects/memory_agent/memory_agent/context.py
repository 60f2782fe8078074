from dataclasses import dataclass

from .prompts import SYSTEM_PROMPT


@dataclass(kw_only=True)
class Context:
    """Whose memories these are, and who speaks of them."""

    user_id: str = "default"

    model: str = "anthropic/claude-sonnet-4-5"

    system_prompt: str = SYSTEM_PROMPT
