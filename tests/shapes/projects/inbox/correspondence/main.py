"""Drafts emails, and asks before it sends any."""

from typing import Literal

from correspondence.schemas import HumanInterrupt, HumanResponse
from correspondence.tools import ASKS, TOOLS
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import ToolMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt


async def draft(state: MessagesState) -> Command[Literal["find", "human", "__end__"]]:
    model = ChatAnthropic(model="claude-sonnet-4-5", max_tokens=500).bind_tools(list(TOOLS.values()))
    said = await model.ainvoke(state["messages"])
    calls = {call["name"] for call in said.tool_calls}
    goto = END if not calls else "human" if calls & ASKS else "find"
    return Command(update={"messages": [said]}, goto=goto)


async def find(state: MessagesState) -> MessagesState:
    return {"messages": [await TOOLS[call["name"]].ainvoke(call) for call in state["messages"][-1].tool_calls]}


async def human(state: MessagesState) -> Command[Literal["draft", "__end__"]]:
    call = state["messages"][-1].tool_calls[0]
    request: HumanInterrupt = {
        "action_request": {"action": call["name"], "args": call["args"]},
        "config": {"allow_ignore": True, "allow_respond": True, "allow_edit": True, "allow_accept": True},
        "description": f"# May I?\n\n{call['args']['content']}",
    }
    response: HumanResponse = interrupt([request])[0]
    if response["type"] == "ignore":
        ignored = ToolMessage("Not sent.", tool_call_id=call["id"])
        return Command(update={"messages": [ignored]}, goto=END)
    if response["type"] == "response":
        said = ToolMessage(f"The user says: {response['args']}", tool_call_id=call["id"])
        return Command(update={"messages": [said]}, goto="draft")
    args = response["args"]["args"] if response["type"] == "edit" else call["args"]
    return Command(update={"messages": [await TOOLS[call["name"]].ainvoke({**call, "args": args})]}, goto="draft")


builder = StateGraph(MessagesState)
builder.add_node(draft)
builder.add_node(find)
builder.add_node(human)
builder.add_edge(START, "draft")
builder.add_edge("find", "draft")
graph = builder.compile()
