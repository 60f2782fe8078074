"""A node that calls a model in each of the ways that there are, with clients of providers and with a scripted model."""

import os
from collections.abc import AsyncIterator
from typing import Any, Literal

from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from pydantic import BaseModel, SecretStr

from tests.served.chat import Parrot

Way = Literal[
    "ainvoke", "invoke", "astream", "events_v2", "events_v3", "stream_v3", "chain", "batch", "structured", "parts"
]


class State(MessagesState):
    """What to call, and how."""

    model: str
    way: str


class Answer(BaseModel):
    """An answer."""

    text: str


def model_of(name: str) -> Any:
    """Build a client."""
    base = os.environ.get("PROVIDER_URL", "http://127.0.0.1:1")
    key = SecretStr("none")
    match name:
        case "openai":
            return ChatOpenAI(model="gpt-4o", api_key=key, base_url=f"{base}/v1", stream_usage=True, max_retries=0)
        case "responses":
            return ChatOpenAI(model="gpt-4o", api_key=key, base_url=f"{base}/v1", use_responses_api=True, max_retries=0)
        case "anthropic":
            return ChatAnthropic(model_name="claude-test", api_key=key, base_url=base, max_retries=0)  # pyright: ignore[reportCallIssue]
        case _:
            return Parrot()


async def answers(model: BaseChatModel, asked: list[Any], way: str) -> list[Any]:
    """Call a model."""
    match way:
        case "ainvoke":
            return [await model.ainvoke(asked)]
        case "invoke":
            return [model.invoke(asked)]
        case "astream":
            whole: Any = None
            async for chunk in model.astream(asked):
                whole = chunk if whole is None else whole + chunk
            return [whole]
        case "events_v2":
            found: list[Any] = []
            events: AsyncIterator[Any] = model.astream_events(asked, version="v2")
            async for event in events:
                if event["event"] == "on_chat_model_end":
                    found.append(event["data"]["output"])
            return found
        case "events_v3":
            stream: Any = await model.astream_events(asked, version="v3")
            return [await stream]
        case "parts":
            parts: Any = await model.astream_events(asked, version="v3")
            async for _ in parts.text:
                pass
            return [await parts]
        case "stream_v3":
            sync: Any = model.stream_events(asked, version="v3")
            for _ in sync:
                pass
            return [sync.output]
        case "chain":
            prompt = ChatPromptTemplate.from_messages([("placeholder", "{asked}")])
            return [await (prompt | model).ainvoke({"asked": asked})]
        case "batch":
            return list(await model.abatch([asked, asked]))
        case "structured":
            parsed: Any = (
                await model.with_structured_output(Answer, method="function_calling", include_raw=True).ainvoke(asked)
                if isinstance(model, ChatOpenAI)
                else await model.with_structured_output(Answer, include_raw=True).ainvoke(asked)
            )
            return [parsed["raw"]]
        case _:
            raise ValueError(way)


async def speak(state: State) -> Any:
    """Answer."""
    return {"messages": await answers(model_of(state["model"]), state["messages"][-1:], state["way"])}


async def keep_silent(state: State) -> Any:
    """Call a model, and return nothing of it."""
    await answers(model_of(state["model"]), state["messages"][-1:], state["way"])
    return {}


async def whisper(state: State) -> Any:
    """Call a model whose answer nobody shall be shown."""
    model = model_of(state["model"]).with_config(tags=["nostream"])
    await answers(model, state["messages"][-1:], state["way"])
    return {}


@tool
async def consult(model: str, way: str) -> str:
    """Ask a model from within a tool."""
    found = await answers(model_of(model), [("user", "alpha beta gamma")], way)
    return str(found[0].text)


async def call_tool(state: State) -> Any:
    """Call the tool."""
    args = {"model": state["model"], "way": state["way"]}
    return {
        "messages": [
            {"role": "ai", "content": "", "id": "calls", "tool_calls": [{"id": "1", "name": "consult", "args": args}]}
        ]
    }


def one(node: Any) -> StateGraph[Any]:
    """Build a graph of one node."""
    return StateGraph(State).add_node("speak", node).add_edge(START, "speak").add_edge("speak", END)


speaks = one(speak).compile()
silent = one(keep_silent).compile()
whispers = one(whisper).compile()
nested = StateGraph(State).add_node("inner", one(speak).compile()).add_edge(START, "inner").compile()
tools = (
    StateGraph(State)
    .add_node("call", call_tool)
    .add_node("tools", ToolNode([consult]))
    .add_edge(START, "call")
    .add_edge("call", "tools")
    .compile()
)
