"""A bookseller: a model and its tools call each other until the model answers. A person approves every order."""

from typing import Any

from bookseller import SHELF, Bookseller
from langchain_core.messages import AnyMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import interrupt


@tool
async def find_books(subject: str) -> str:
    """Look up which books on a subject are on the shelf."""
    found = [f"{title} ({copies} left)" for title, copies in SHELF.get(subject, {}).items()]
    return "\n".join(found) or f"Nothing about {subject}."


@tool
async def order_books(title: str, copies: int) -> str:
    """Order copies of a book from the publisher, once a person has approved it."""
    args = decided("order_books", {"title": title, "copies": copies})
    return f"Ordered {args['copies']} × {args['title']}."


class Declined(Exception):
    """A person said no."""


def decided(name: str, args: dict[str, Any]) -> dict[str, Any]:
    """Ask a person about the call of a tool, and return the arguments it is approved with.

    Question and answer have the form of LangChain's human-in-the-loop middleware, which other chat pages know too.

    Raises:
        Declined: it is not approved.
    """
    request = {"name": name, "args": args, "description": "The bookseller wants to order from the publisher."}
    review = {"action_name": name, "allowed_decisions": ["approve", "edit", "reject"]}
    answer = interrupt({"action_requests": [request], "review_configs": [review]})
    decision = answer["decisions"][0]
    if decision["type"] == "reject":
        raise Declined(decision.get("message") or "Declined.")
    return decision["edited_action"]["args"] if decision["type"] == "edit" else args


tools = [find_books, order_books]
llm = Bookseller().bind_tools(tools)


async def model(state: MessagesState) -> dict[str, list[AnyMessage]]:
    """Let the model answer, or call a tool."""
    return {"messages": [await llm.ainvoke(state["messages"])]}


builder = StateGraph(MessagesState)
builder.add_node("model", model)
builder.add_node("tools", ToolNode(tools, handle_tool_errors=lambda error: str(error)))
builder.add_edge(START, "model")
builder.add_conditional_edges("model", tools_condition)
builder.add_edge("tools", "model")
graph = builder.compile()
