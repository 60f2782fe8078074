from typing import Annotated

from langchain_core.messages import ToolMessage
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.prebuilt import InjectedState
from langgraph.types import Command

FLIGHTS = {"Oslo": "SK 1", "Rome": "AZ 2", "Lima": "LA 3"}


def search_flights(destination: str) -> str:
    """Search flights to a destination."""
    if destination not in FLIGHTS:
        raise RuntimeError(f"no airport in {destination}")
    return f"{FLIGHTS[destination]} flies to {destination}"


def search_hotels(location: str) -> str:
    """Search hotels."""
    return f"Grand Hotel, {location}"


def handoff(agent: str):
    @tool(f"transfer_to_{agent}")
    def transfer(state: Annotated[dict, InjectedState], tool_call_id: Annotated[str, InjectedToolCallId]) -> Command:
        """Hand the conversation over."""
        done = ToolMessage(f"Transferred to {agent}", name=f"transfer_to_{agent}", tool_call_id=tool_call_id)
        return Command(
            goto=agent,
            graph=Command.PARENT,
            update={"messages": [*state["messages"], done], "active_agent": agent},
        )

    return transfer
