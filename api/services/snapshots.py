"""The public form of LangGraph's state snapshots."""

from langchain_core.runnables import RunnableConfig
from langgraph.types import PregelTask, StateSnapshot

from durathread.graphs.failures import masked
from durathread.records import JsonObject
from durathread.steps.superstep import interrupt_json

SNAPSHOT_ADDRESS = ("thread_id", "checkpoint_ns", "checkpoint_id", "checkpoint_map")
FIELDS = (
    "values",
    "next",
    "tasks",
    "checkpoint",
    "metadata",
    "created_at",
    "parent_checkpoint",
    "interrupts",
    "checkpoint_id",
    "parent_checkpoint_id",
)


def state_json(snapshot: StateSnapshot, *, echo: bool = False) -> JsonObject:
    """Show a state. Without a checkpoint its address is null, or what was asked for if `echo`."""
    metadata: JsonObject | None = dict(snapshot.metadata) if snapshot.metadata is not None else None
    checkpoint = address_json(snapshot.config)
    if metadata is not None and "thread_id" in checkpoint:
        metadata.setdefault("thread_id", checkpoint["thread_id"])
    if echo:
        metadata = metadata or {}
        checkpoint.setdefault("checkpoint_id", None)
    found = checkpoint if "checkpoint_id" in checkpoint else None
    parent = address_json(snapshot.parent_config) if snapshot.parent_config else None
    return {
        "values": snapshot.values,
        "next": list(snapshot.next),
        "tasks": [_task_json(task) for task in snapshot.tasks],
        "metadata": metadata,
        "created_at": snapshot.created_at,
        "checkpoint": found,
        "parent_checkpoint": parent,
        "interrupts": [interrupt_json(interrupt) for interrupt in snapshot.interrupts],
        "checkpoint_id": found and found["checkpoint_id"],
        "parent_checkpoint_id": parent and parent.get("checkpoint_id"),
    }


def address_json(config: RunnableConfig) -> JsonObject:
    """Show where a checkpoint is."""
    configurable: JsonObject = config.get("configurable") or {}
    return {"checkpoint_ns": "", **{key: configurable[key] for key in SNAPSHOT_ADDRESS if key in configurable}}


def _task_json(task: PregelTask) -> JsonObject:
    nested = state_json(task.state, echo=True) if isinstance(task.state, StateSnapshot) else None
    address = address_json(task.state) if isinstance(task.state, dict) else None
    return {
        "id": task.id,
        "name": task.name,
        "path": list(task.path),
        "error": None if task.error is None else masked(task.error),
        "interrupts": [interrupt_json(interrupt) for interrupt in task.interrupts],
        "checkpoint": address,
        "state": nested,
        "result": task.result,
    }
