from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from langchain.agents import create_agent
from langchain_core.tools import tool
from langgraph_sdk.runtime import ServerRuntime

from agents.phones import Directory


@dataclass
class Context:
    tone: str = "brief"


async def _agent(directory: Directory | None, tone: str):
    @tool
    async def dialling_code(place: str) -> str:
        """Find a dialling code."""
        if directory is None:
            raise RuntimeError("only a run has a directory")
        return await directory.code(place)

    return create_agent(
        "openai:gpt-4o",
        [dialling_code],
        system_prompt=f"You are an operator. Be {tone}.",
        context_schema=Context,
    )


@asynccontextmanager
async def make_graph(runtime: ServerRuntime[Context]) -> AsyncIterator:
    if execution := runtime.execution_runtime:
        async with Directory() as directory:
            yield await _agent(directory, execution.context.tone)
    else:
        yield await _agent(None, "brief")
