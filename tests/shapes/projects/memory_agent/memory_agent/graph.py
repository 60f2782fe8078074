"""A conversation with somebody who takes notes."""

import asyncio
from datetime import datetime
from typing import cast

from langchain.chat_models import init_chat_model
from langgraph.graph import END, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore

from . import tools
from .context import Context
from .state import State


def named(fully_specified_name: str) -> dict:
    provider, model = fully_specified_name.split("/", maxsplit=1)
    return {"model": model, "model_provider": provider}


# Which model is said by each call.
llm = init_chat_model()


async def call_model(state: State, runtime: Runtime[Context]) -> dict:
    """Answer, with what is remembered."""
    user_id = runtime.context.user_id
    memories = await cast(BaseStore, runtime.store).asearch(
        ("memories", user_id),
        query=str([m.content for m in state.messages[-3:]]),
        limit=10,
    )

    formatted = "\n".join(f"- {mem.value['content']} ({mem.score})" for mem in memories)
    sys = runtime.context.system_prompt.format(user_info=formatted, time=datetime.now().isoformat())

    msg = await llm.bind_tools([tools.upsert_memory]).ainvoke(
        [{"role": "system", "content": sys}, *state.messages],
        config={"configurable": named(runtime.context.model)},
    )
    return {"messages": [msg]}


async def store_memory(state: State, runtime: Runtime[Context]):
    tool_calls = getattr(state.messages[-1], "tool_calls", [])

    # all at once
    saved = await asyncio.gather(
        *(
            tools.upsert_memory(
                **tc["args"],
                user_id=runtime.context.user_id,
                store=cast(BaseStore, runtime.store),
            )
            for tc in tool_calls
        )
    )

    results = [
        {"role": "tool", "content": mem, "tool_call_id": tc["id"]} for tc, mem in zip(tool_calls, saved, strict=True)
    ]
    return {"messages": results}


def route_message(state: State):
    msg = state.messages[-1]
    if getattr(msg, "tool_calls", None):
        return "store_memory"
    return END


builder = StateGraph(State, context_schema=Context)

builder.add_node(call_model)
builder.add_edge("__start__", "call_model")
builder.add_node(store_memory)
builder.add_conditional_edges("call_model", route_message, ["store_memory", END])
builder.add_edge("store_memory", "call_model")
graph = builder.compile()
graph.name = "MemoryAgent"

__all__ = ["graph"]
