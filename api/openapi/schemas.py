"""The forms that OpenAPI shows for what the server answers."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field, create_model

from durathread.records import LifetimeStrategy, OnRunCompleted, RunStatus, Strategy, ThreadStatus


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
    cancel_reason: str | None = Field(None, description="Why the run was interrupted, if it was.")


class TtlModel(BaseModel):
    """How long a thread lives that nobody touches."""

    strategy: LifetimeStrategy
    ttl_minutes: float
    expires_at: datetime


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
    ttl: TtlModel | None = Field(None, description="With `include=ttl`; absent if the thread lives on.")


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


class AssistantVersionModel(BaseModel):
    """An assistant as it was at one time."""

    assistant_id: UUID
    graph_id: str
    name: str
    description: str | None
    config: dict[str, Any]
    context: dict[str, Any]
    metadata: dict[str, Any]
    version: int
    created_at: datetime


def selection_of(model: type[BaseModel]) -> type[BaseModel]:
    """Describe a model of which only selected fields are shown."""
    fields: dict[str, Any] = {
        name: (field.annotation, Field(None, description=field.description))
        for name, field in model.model_fields.items()
    }
    return create_model(f"Selected{model.__name__}", __doc__=model.__doc__, **fields)


class CronModel(BaseModel):
    """A run that is started again and again."""

    cron_id: UUID
    assistant_id: UUID
    thread_id: UUID | None = Field(description="The thread of all runs; null if each has its own.")
    user_id: str | None
    end_time: datetime | None
    schedule: str
    timezone: str | None = Field(description="Null is UTC.")
    payload: dict[str, Any] = Field(description="What the client asked for.")
    next_run_date: datetime | None = Field(description="Null if it is disabled or has ended.")
    metadata: dict[str, Any]
    on_run_completed: OnRunCompleted | None = Field(description="Null on a thread.")
    enabled: bool
    created_at: datetime
    updated_at: datetime


class DrawnGraph(BaseModel):
    """The nodes and edges of a graph."""

    nodes: list[dict[str, Any]]
    edges: list[dict[str, Any]]


class SubgraphSchemas(BaseModel):
    """JSON schemas of a graph; null where there is none."""

    input_schema: dict[str, Any] | None
    output_schema: dict[str, Any] | None
    state_schema: dict[str, Any] | None
    config_schema: dict[str, Any] | None
    context_schema: dict[str, Any] | None


class GraphSchemaModel(SubgraphSchemas):
    """JSON schemas of an assistant's graph."""

    graph_id: str


class CheckpointModel(BaseModel):
    """The address of a checkpoint."""

    thread_id: UUID
    checkpoint_ns: str
    checkpoint_id: str | None
    checkpoint_map: dict[str, Any] | None = Field(None, description="Of the graphs around a subgraph.")


class ThreadTaskModel(BaseModel):
    """A node that is next, or that has worked in the step."""

    id: str
    name: str
    path: list[Any]
    error: str | None
    interrupts: list[dict[str, Any]]
    checkpoint: dict[str, Any] | None = Field(description="Where the state of the node's subgraph is.")
    state: dict[str, Any] | None = Field(description="The state of the node's subgraph, if it was asked for.")
    result: Any = None


class ThreadStateModel(BaseModel):
    """The state of a thread at a checkpoint."""

    values: Any
    next: list[str]
    tasks: list[ThreadTaskModel]
    metadata: dict[str, Any] | None
    created_at: datetime | None
    checkpoint: CheckpointModel | None
    parent_checkpoint: CheckpointModel | None
    interrupts: list[dict[str, Any]]
    checkpoint_id: str | None = Field(deprecated=True)
    parent_checkpoint_id: str | None = Field(deprecated=True)


class StateUpdated(BaseModel):
    """The checkpoint that an update has written."""

    checkpoint: CheckpointModel
    configurable: CheckpointModel = Field(deprecated=True)
    checkpoint_id: str = Field(deprecated=True)


class ItemModel(BaseModel):
    """An item of the store."""

    namespace: list[str]
    key: str
    value: dict[str, Any]
    created_at: datetime
    updated_at: datetime


class FoundItemModel(ItemModel):
    """An item of the store that was searched for."""

    score: float | None = Field(description="How near it is to the query; null without one.")


class FoundItems(BaseModel):
    """The items that were found."""

    items: list[FoundItemModel]


class FoundNamespaces(BaseModel):
    """The namespaces that were found."""

    namespaces: list[list[str]]


class Pruned(BaseModel):
    """How many threads were pruned."""

    pruned_count: int


class Health(BaseModel):
    """Whether the server is well."""

    ok: bool
    services: dict[str, str] | None = None


class Service(BaseModel):
    """Whether an engine answers, and if not, why."""

    ok: bool
    error: str | None = None


class Readiness(BaseModel):
    """Whether the server can carry out requests: whether its engines answer."""

    ok: bool
    services: dict[str, Service]


class Info(BaseModel):
    """Facts about the server."""

    version: str = Field(description="The version of the Agent Server API that is served, which clients compare.")
    durathread_version: str
    langgraph_py_version: str
    flags: dict[str, Any]
    host: dict[str, Any]
