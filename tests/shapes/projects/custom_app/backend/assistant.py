from directory import HOURS
from langchain.agents import create_agent
from langchain.tools import ToolRuntime
from langchain_core.runnables import RunnableConfig


def opening_hours(place: str, config: RunnableConfig, runtime: ToolRuntime) -> str:
    """Find out when the office at a place is open."""
    user = config["configurable"]["langgraph_auth_user"]["identity"]
    return f"{HOURS[place]} for {user}"


graph = create_agent("openai:gpt-4o-mini", [opening_hours], system_prompt="You are at the front desk.")
