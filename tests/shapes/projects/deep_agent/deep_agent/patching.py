"""A conversation that was stopped while tools worked goes on."""

from typing import Any

from langchain.agents.middleware import AgentMiddleware, AgentState
from langchain_core.messages import AIMessage, RemoveMessage, ToolMessage
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.runtime import Runtime


class PatchToolCallsMiddleware(AgentMiddleware):
    def before_agent(self, state: AgentState, runtime: Runtime) -> dict[str, Any] | None:
        answered = {m.tool_call_id for m in state["messages"] if isinstance(m, ToolMessage)}
        patched = []
        for message in state["messages"]:
            patched.append(message)
            for call in message.tool_calls if isinstance(message, AIMessage) else ():
                if call["id"] not in answered:
                    patched.append(ToolMessage("Cancelled: another message came in.", tool_call_id=call["id"]))
        if len(patched) == len(state["messages"]):
            return None
        return {"messages": [RemoveMessage(REMOVE_ALL_MESSAGES), *patched]}
