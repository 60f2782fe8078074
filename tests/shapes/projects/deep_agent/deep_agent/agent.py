from langchain.agents import create_agent
from langchain.agents.middleware import (
    ModelCallLimitMiddleware,
    PIIMiddleware,
    SummarizationMiddleware,
    TodoListMiddleware,
)

from .files import FilesMiddleware
from .patching import PatchToolCallsMiddleware
from .progress import ProgressMiddleware
from .prompts import MAIN
from .subagents import SubAgentMiddleware

MODEL = "openai:gpt-4.1"

agent = create_agent(
    MODEL,
    system_prompt=MAIN,
    middleware=[
        TodoListMiddleware(),
        FilesMiddleware(),
        SubAgentMiddleware(MODEL),
        SummarizationMiddleware(MODEL, trigger=("messages", 200)),
        PatchToolCallsMiddleware(),
        ModelCallLimitMiddleware(run_limit=8),
        PIIMiddleware("email", apply_to_input=False, apply_to_output=True),
        ProgressMiddleware(),
    ],
    name="deep",
).with_config({"recursion_limit": 1000})
