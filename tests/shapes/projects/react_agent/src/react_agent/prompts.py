"""Default prompts."""

SYSTEM_PROMPT = """You know the weather. Look it up before you answer.

It is {now}."""
