"""An agent with a search tool: a model node and a tool node that call each other until the model answers."""

import asyncio
import importlib.util
import json
import os

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage, SystemMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from scripted import ScriptedChatModel, city_in, delay

FORECASTS = {
    "San Francisco": [
        {
            "url": "https://weather.example/us/ca/san-francisco",
            "content": "High 64F. Winds W at 10 to 20 mph. A few clouds from time to time. Low 49F.",
        },
        {
            "url": "https://forecast.example/san-francisco",
            "content": "Fog along the coast until late morning, then sun. Humidity 72 percent, no rain expected.",
        },
    ],
    "New York City": [
        {
            "url": "https://weather.example/us/ny/new-york-city",
            "content": "High 88F. Winds SSW at 5 to 10 mph. Sunny, hot and humid. Low 71F.",
        },
        {
            "url": "https://forecast.example/new-york-city",
            "content": "A thunderstorm is possible in the evening. Humidity 64 percent, heat advisory until 8 pm.",
        },
    ],
}


@tool
async def search(query: str) -> str:
    """Search the web. Returns a JSON list of results, each with `url` and `content`."""
    await asyncio.sleep(delay(0.25))
    city = city_in(query) or "the area"
    anywhere = {
        "url": f"https://weather.example/search?q={city.replace(' ', '+')}",
        "content": f"The weather in {city}: high 70F, low 55F. Light winds and a mix of sun and clouds.",
    }
    return json.dumps(FORECASTS.get(city, [anywhere]))


def model() -> BaseChatModel:
    """Choose the chat model: a real one where the environment has its key and package, else the scripted one."""
    for key, package, kind, name in (
        ("ANTHROPIC_API_KEY", "langchain_anthropic", "ChatAnthropic", "claude-sonnet-4-5"),
        ("OPENAI_API_KEY", "langchain_openai", "ChatOpenAI", "gpt-5-mini"),
    ):
        if os.environ.get(key) and importlib.util.find_spec(package):
            provider = importlib.import_module(package)
            return getattr(provider, kind)(model=os.environ.get("WEATHER_MODEL", name))
    return ScriptedChatModel()


SYSTEM = SystemMessage("Answer questions about the weather. Look it up with the search tool first.")
llm = model().bind_tools([search])


async def call_model(state: MessagesState) -> dict[str, list[AnyMessage]]:
    """Let the model answer, or ask for a search."""
    return {"messages": [await llm.ainvoke([SYSTEM, *state["messages"]])]}


builder = StateGraph(MessagesState)
builder.add_node("agent", call_model)
builder.add_node("tools", ToolNode([search]))
builder.add_edge(START, "agent")
builder.add_conditional_edges("agent", tools_condition)
builder.add_edge("tools", "agent")
graph = builder.compile()
