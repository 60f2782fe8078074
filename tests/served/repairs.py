"""Agents whose turns are cut off: their tools work for ever, or kill their worker; what they note holds whoever reads it."""

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from langchain.agents import AgentState, create_agent
from langchain.tools import ToolRuntime
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from tests.served.providers import model_of


def noting(left: list[str], right: list[str]) -> list[str]:
    """Add notes. Each names a folder: while that is armed, whoever adds the note waits."""
    for folder in map(Path, right):
        while (folder / "armed").exists():
            (folder / "entered").touch()
            time.sleep(0.01)
    return left + right


@dataclass
class Held:
    """A context that is built when the folder that it names is not armed any more."""

    folder: str = ""

    def __post_init__(self) -> None:
        """Wait."""
        if self.folder:
            noting([], [self.folder])


class Noted(AgentState):
    """A conversation, and notes."""

    notes: Annotated[list[str], noting]


@tool
async def quick() -> str:
    """Return at once."""
    return "quick is done"


@tool
async def slow(trace: str) -> str:
    """Work for ever."""
    await asyncio.to_thread(Path(trace).touch)
    await asyncio.Event().wait()
    return "slow is done"


@tool
def deadly(trace: str) -> str:
    """Kill the worker."""
    Path(trace).touch()
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


@tool
def jot(folder: str, runtime: ToolRuntime[Any, Any]) -> Command[Any]:
    """Make a note."""
    result = ToolMessage("noted", tool_call_id=str(runtime.tool_call_id))
    return Command(update={"notes": [folder], "messages": [result]})


@tool
async def ask() -> str:
    """Ask a person."""
    return str(interrupt("may I?"))


def agent(model: str, **options: Any) -> Any:
    """Build an agent."""
    return create_agent(
        model_of(model), [quick, slow, deadly, jot, ask], state_schema=Noted, context_schema=Held, **options
    )


openai = agent("openai")
responses = agent("responses")
anthropic = agent("anthropic")
within = StateGraph(MessagesState).add_node("inner", agent("openai")).add_edge(START, "inner").compile()
remembering = (
    StateGraph(MessagesState).add_node("inner", agent("openai", checkpointer=True)).add_edge(START, "inner").compile()
)
