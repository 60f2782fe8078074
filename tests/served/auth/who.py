"""A graph that tells in whose name it works."""

from typing import Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import get_runtime


class State(TypedDict, total=False):
    """What the node found out."""

    seen: dict[str, Any]


async def tell(state: State, config: RunnableConfig) -> State:
    """Read the user from the config, and from the runtime."""
    configurable = config.get("configurable", {})
    user = configurable.get("langgraph_auth_user")
    server = get_runtime().server_info
    known = server and server.user
    return {
        "seen": {
            "user": user,
            "attribute": user and user.identity,
            "key": user and user["identity"],
            "runtime": known and known.identity,
            "id": configurable.get("langgraph_auth_user_id"),
            "user_id": configurable.get("user_id"),
            "permissions": configurable.get("langgraph_auth_permissions"),
        }
    }


graph = StateGraph(State).add_node(tell).add_edge(START, "tell").add_edge("tell", END).compile()
