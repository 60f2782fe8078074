from typing import Literal

from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic import BaseModel, Field

from rag.index import get_index


class Grade(BaseModel):
    """Whether a document is about the question."""

    relevant: Literal["yes", "no"] = Field(description="'yes' or 'no'")


_model = None


def get_model():
    global _model
    if _model is None:
        from langchain.chat_models import init_chat_model

        _model = init_chat_model("gpt-4.1", temperature=0)
    return _model


@tool(response_format="content_and_artifact")
def retrieve(query: str):
    """Search the documents."""
    found = get_index().search(query)
    return "\n".join(d.page_content for d in found), found


def query_or_respond(state: MessagesState):
    return {"messages": [get_model().bind_tools([retrieve]).invoke(state["messages"])]}


def grade(state: MessagesState) -> Literal["generate", "rewrite"]:
    question, context = _question(state), state["messages"][-1].content
    given = get_model().with_structured_output(Grade).invoke(f"Is this about '{question}'?\n{context}")
    return "generate" if given.relevant == "yes" else "rewrite"


def rewrite(state: MessagesState):
    return {"messages": [{"role": "user", "content": f"In other words: {_question(state)}"}]}


def generate(state: MessagesState):
    prompt = f"Answer from the context.\nQuestion: {_question(state)}\nContext: {state['messages'][-1].content}"
    return {"messages": [get_model().invoke(prompt)]}


def _question(state: MessagesState) -> str:
    return next(m.content for m in reversed(state["messages"]) if m.type == "human")


workflow = StateGraph(MessagesState)
workflow.add_node(query_or_respond)
workflow.add_node("retrieve", ToolNode([retrieve]))
workflow.add_node(rewrite)
workflow.add_node(generate)
workflow.add_edge(START, "query_or_respond")
workflow.add_conditional_edges("query_or_respond", tools_condition, {"tools": "retrieve", END: END})
workflow.add_conditional_edges("retrieve", grade)
workflow.add_edge("generate", END)
workflow.add_edge("rewrite", "query_or_respond")
graph = workflow.compile()
