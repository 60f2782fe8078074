import uuid
from typing import Annotated

from langchain_core.tools import InjectedToolArg
from langgraph.store.base import BaseStore

FORGOTTEN = ("Atlantis",)


async def upsert_memory(
    content: str,
    context: str,
    *,
    memory_id: uuid.UUID | None = None,
    user_id: Annotated[str, InjectedToolArg],
    store: Annotated[BaseStore, InjectedToolArg],
) -> str:
    """Remember something about the person you talk to.

    Args:
        content: What to remember.
        context: Where it came up.
        memory_id: Only if it takes the place of another memory.
    """
    if any(place in content for place in FORGOTTEN):
        raise ValueError(f"nobody can have lived there: {content}")
    mem_id = memory_id or uuid.uuid4()
    await store.aput(
        ("memories", user_id),
        key=str(mem_id),
        value={"content": content, "context": context},
    )
    return f"Noted: {content}"
