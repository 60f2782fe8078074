from langchain_core.runnables import RunnableConfig
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph


def make_graph(config: RunnableConfig):
    configurable = config.get("configurable", {})
    model = ChatOpenAI(model=configurable.get("model", "gpt-4o-mini"))

    async def answer(state: MessagesState):
        return {"messages": [await model.ainvoke(state["messages"])]}

    workflow = StateGraph(MessagesState)
    workflow.add_node("answer", answer)
    workflow.add_edge(START, "answer")
    return workflow.compile(name=f"Agent of {configurable.get('user_id') or 'nobody'}")
