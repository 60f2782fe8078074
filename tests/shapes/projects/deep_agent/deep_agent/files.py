"""Files that live in the state."""

from typing import Annotated, Any

from langchain.agents.middleware import AgentMiddleware, AgentState
from langchain.tools import ToolRuntime, tool
from langchain_core.messages import ToolMessage
from langgraph.types import Command
from typing_extensions import NotRequired


def merged(left: dict[str, str] | None, right: dict[str, str]) -> dict[str, str]:
    return {**(left or {}), **right}


class FilesState(AgentState[Any]):
    files: Annotated[NotRequired[dict[str, str]], merged]


@tool
def write_file(path: str, content: str, runtime: ToolRuntime) -> Command:
    """Write a file."""
    done = ToolMessage(f"Wrote {path}", tool_call_id=runtime.tool_call_id)
    return Command(update={"files": {path: content}, "messages": [done]})


@tool
def read_file(path: str, runtime: ToolRuntime) -> str:
    """Read a file."""
    return runtime.state["files"][path]


class FilesMiddleware(AgentMiddleware):
    state_schema = FilesState
    tools = [write_file, read_file]
