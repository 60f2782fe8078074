"""The forms that OpenAPI shows for what the server answers."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from durathread.records import RunStatus, Strategy, ThreadStatus


class RunModel(BaseModel):
    """One execution of an assistant on a thread."""

    run_id: UUID
    thread_id: UUID
    assistant_id: UUID
    created_at: datetime
    updated_at: datetime
    status: RunStatus
    metadata: dict[str, Any]
    kwargs: dict[str, Any]
    multitask_strategy: Strategy
    langsmith_session_name: str | None = None


class ThreadModel(BaseModel):
    """A conversation."""

    thread_id: UUID
    created_at: datetime
    updated_at: datetime
    state_updated_at: datetime
    metadata: dict[str, Any]
    status: ThreadStatus
    config: dict[str, Any]
    values: Any = None
    interrupts: dict[str, Any] | None = Field(None, description="By task; absent before the first run has ended.")
    error: dict[str, Any] | None = Field(None, description="Of the last run; absent before the first run has ended.")


class AssistantModel(BaseModel):
    """A graph with a configuration."""

    assistant_id: UUID
    graph_id: str
    name: str
    description: str | None
    config: dict[str, Any]
    context: dict[str, Any]
    metadata: dict[str, Any]
    version: int
    created_at: datetime
    updated_at: datetime
