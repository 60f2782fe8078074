"""A graph that notes in the store what it finds, wherever users' code runs: docs/graph-config.md is what it has found."""

import operator
from typing import Annotated, Any, TypedDict
from uuid import uuid4

from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.config import get_config, get_store
from langgraph.graph import END, START, StateGraph, add_messages
from langgraph.prebuilt import ToolNode, ToolRuntime
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore
from langgraph_sdk.runtime import ServerRuntime

from durathread.encode import jsonable

NAMESPACE = "probe"


class State(TypedDict, total=False):
    """Nothing but a call of a tool."""

    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[str], operator.add]


def seen(config: Any, **more: Any) -> dict[str, Any]:
    """Describe a config; what is LangGraph's own is not shown."""
    configurable = {key: value for key, value in config["configurable"].items() if not key.startswith("__pregel")}
    return jsonable(
        {
            "configurable": configurable,
            "metadata": dict(config.get("metadata") or {}),
            "recursion_limit": config.get("recursion_limit"),
            "tags": config.get("tags") or [],
            **more,
        }
    )


def server_info(runtime: Any) -> Any:
    """Describe what is known of the server."""
    info = runtime.server_info
    return info and {"assistant_id": info.assistant_id, "graph_id": info.graph_id, "user": info.user}


async def note(place: str, found: dict[str, Any]) -> None:
    """Remember what was found."""
    await get_store().aput((NAMESPACE, place), str(uuid4()), found)


@tool
async def look(config: RunnableConfig, runtime: ToolRuntime[Any, Any]) -> str:
    """Look at what a tool is given."""
    await note("tool", seen(config, context=runtime.context, server_info=server_info(runtime)))
    return "seen"


async def node(state: State, config: RunnableConfig, runtime: Runtime[Any]) -> State:
    """Look at what a node is given, and call the tool."""
    more = {"context": runtime.context, "server_info": server_info(runtime)}
    await note("node", seen(config, **more))
    await note("get_config", seen(get_config(), **more))
    call: Any = {"name": "look", "args": {}, "id": "call"}
    return {"messages": [AIMessage("", tool_calls=[call])]}


async def within(state: State, config: RunnableConfig, runtime: Runtime[Any]) -> State:
    """Look at what a node of a subgraph is given."""
    await note("subgraph", seen(config, context=runtime.context, server_info=server_info(runtime)))
    return {"log": ["done"]}


class Tracer(AsyncCallbackHandler):
    """Looks at what a tracer is given of each node."""

    def __init__(self, store: BaseStore) -> None:
        """Remember where to note it: tracers are called outside of nodes."""
        self._store = store

    async def on_chain_start(self, serialized: Any, inputs: Any, *, metadata: Any = None, **kwargs: Any) -> None:
        """Look at the metadata of a node."""
        if kwargs.get("name") == "node":
            await self._store.aput((NAMESPACE, "callback"), str(uuid4()), jsonable({"metadata": metadata}))


async def make(config: RunnableConfig, runtime: ServerRuntime[Any]) -> Any:
    """Look at what a factory is given, and build the graph."""
    execution = runtime.execution_runtime
    found = seen(config, why=runtime.access_context, user=runtime.user, context=execution and execution.context)
    await runtime.store.aput((NAMESPACE, runtime.access_context.replace(".", "_")), str(uuid4()), found)
    inner: Any = StateGraph(State)
    inner.add_node("within", within)
    inner.add_edge(START, "within")
    inner.add_edge("within", END)
    builder: Any = StateGraph(State)
    builder.add_node("node", node)
    builder.add_node("tools", ToolNode([look]))
    builder.add_node("sub", inner.compile())
    builder.add_edge(START, "node")
    builder.add_edge("node", "tools")
    builder.add_edge("tools", "sub")
    builder.add_edge("sub", END)
    return builder.compile().with_config(callbacks=[Tracer(runtime.store)])


class Log(TypedDict, total=False):
    """What was done."""

    log: Annotated[list[str], operator.add]


def bound(config: RunnableConfig) -> Any:
    """Build a graph that keeps the config of its factory; refuses in the words that it is told to."""
    if words := config.get("configurable", {}).get("refuse"):
        raise ValueError(words)
    builder: Any = StateGraph(Log)
    builder.add_node("a", lambda _: {"log": ["a"]})
    builder.add_node("b", lambda _: {"log": ["b"]})
    builder.add_edge(START, "a")
    builder.add_edge("a", "b")
    builder.add_edge("b", END)
    return builder.compile().with_config(config)
