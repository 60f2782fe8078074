import contextlib

from langchain.agents import create_agent
from langchain_core.tools import StructuredTool

from agents.phones import Directory


@contextlib.asynccontextmanager
async def make_graph(config):
    async with Directory() as directory:
        code = StructuredTool.from_function(
            coroutine=directory.code, name="dialling_code", description="Find a dialling code."
        )
        yield create_agent("openai:gpt-4o", [code])
