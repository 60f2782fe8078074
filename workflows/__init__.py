"""Deterministic code only: a file a workflow type, and `messages`, which holds every dataclass that is sent to one."""
