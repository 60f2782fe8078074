"""What every graph and every factory finds in its config, whatever it is opened for. docs/graph-config.md lists it."""

from copy import deepcopy
from importlib.metadata import version
from typing import Any, cast
from uuid import UUID

from langchain_core.runnables import RunnableConfig

from durathread.records import RunOptions
from durathread.users import User

# Of the address of a checkpoint.
CHECKPOINT_ADDRESS = ("checkpoint_id", "checkpoint_ns", "checkpoint_map")
# What the Agent Server gives to runs that do not say one; LangGraph itself would let them look four times less.
DEFAULT_RECURSION_LIMIT = 10011
# Agents that are expensive to build return a sketch of themselves where this is not True.
FOR_EXECUTION = "__is_for_execution__"
# What is known of a caller where nobody is authenticated. Graphs subscript these keys.
NOBODY: dict[str, Any] = {
    "langgraph_auth_user": None,
    "langgraph_auth_user_id": "",
    "langgraph_auth_permissions": [],
    "user_id": "",
}
SERVER = {
    "langgraph_version": version("langgraph"),
    "langgraph_api_version": version("durathread"),
    "langgraph_plan": "open",
    "langgraph_host": "self-hosted",
}


def completed(config: RunnableConfig | None, *, executes: bool, api_url: str) -> RunnableConfig:
    """Add to a config what every config has.

    Args:
        config: of a run, of a thread that is read, of an assistant that is looked at, or none.
        executes: whether nodes will run.
        api_url: where the server is reached.
    """
    given = cast(dict[str, Any], config or {})
    configurable: dict[str, Any] = {**deepcopy(NOBODY), **given.get("configurable", {}), FOR_EXECUTION: executes}
    if user := configurable["langgraph_auth_user"]:
        configurable["langgraph_auth_user"] = User(user)
    metadata = {**(given.get("metadata") or {}), **SERVER, "langgraph_api_url": api_url}
    return cast(
        RunnableConfig,
        {"recursion_limit": DEFAULT_RECURSION_LIMIT, **given, "configurable": configurable, "metadata": metadata},
    )


def for_factory(config: RunnableConfig) -> RunnableConfig:
    """Take out what a graph must not keep that its factory binds to this config: which checkpoint is looked at."""
    own = {key: value for key, value in config.get("configurable", {}).items() if key not in CHECKPOINT_ADDRESS}
    return {**config, "configurable": own}


def reading_config(graph_id: str, thread_id: UUID, options: RunOptions) -> RunnableConfig:
    """Build the config that a graph is opened with to read what a run left: a factory makes what it made for the run."""
    own = {key: value for key, value in options.configurable.items() if key not in CHECKPOINT_ADDRESS}
    ids = {"thread_id": str(thread_id), "graph_id": graph_id}
    return cast(RunnableConfig, {**options.config, "configurable": {**own, **ids}})
