import asyncio

from langchain_core.messages import AIMessage, BaseMessage, ToolCall, ToolMessage
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import add_messages

from lookup import currency

model = ChatOpenAI(model="gpt-5-mini", use_responses_api=True)
TOOLS = {currency.name: currency}


@task
async def call_model(messages: list[BaseMessage]) -> AIMessage:
    return await model.bind_tools(list(TOOLS.values())).ainvoke(messages)


@task
async def call_tool(call: ToolCall) -> ToolMessage:
    return await TOOLS[call["name"]].ainvoke(call)


@entrypoint(checkpointer=InMemorySaver())
async def agent(inputs: dict, *, previous: list | None) -> entrypoint.final[dict, list]:
    """Answer, with tools, and with what was said before."""
    messages = add_messages(previous or [], inputs["messages"])
    response = await call_model(messages)
    while response.tool_calls:
        results = await asyncio.gather(*(call_tool(call) for call in response.tool_calls))
        messages = add_messages(messages, [response, *results])
        response = await call_model(messages)
    messages = add_messages(messages, [response])
    return entrypoint.final(value={"messages": messages}, save=messages)
