"""Agents that the main one hands work to."""

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain.tools import ToolRuntime, tool
from langchain_core.messages import ToolMessage
from langgraph.types import Command

from .files import FilesMiddleware
from .prompts import RESEARCHER

REPORTS = {"Oslo": "green hills", "Rome": "seven hills", "Lima": "cliffs"}


@tool
async def survey(place: str) -> str:
    """Survey a place."""
    return REPORTS[place]


class SubAgentMiddleware(AgentMiddleware):
    """Brings `task`."""

    def __init__(self, model: str) -> None:
        super().__init__()
        researcher = create_agent(
            model, tools=[survey], system_prompt=RESEARCHER, middleware=[FilesMiddleware()], name="researcher"
        )

        @tool
        async def task(description: str, runtime: ToolRuntime) -> Command:
            """Hand a question to a researcher, who knows nothing of this conversation."""
            found = await researcher.ainvoke(
                {"messages": [{"role": "user", "content": description}], "files": runtime.state.get("files", {})}
            )
            report = ToolMessage(found["messages"][-1].text, tool_call_id=runtime.tool_call_id)
            return Command(update={"files": found.get("files", {}), "messages": [report]})

        self.tools = [task]
