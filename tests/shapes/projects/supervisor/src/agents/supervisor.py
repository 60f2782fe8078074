from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph

from src.agents import prompts
from src.agents.handoff import create_handoff_tool
from src.agents.tools import count_words, look_up

model = ChatOpenAI(model="gpt-4.1", temperature=0)

researcher = create_agent(model, tools=[look_up], system_prompt=prompts.RESEARCHER, name="researcher")
writer = create_agent(model, tools=[count_words], system_prompt=prompts.WRITER, name="writer")
supervisor = create_agent(
    model,
    tools=[
        create_handoff_tool(agent_name="researcher", description="Assign a task to the researcher."),
        create_handoff_tool(agent_name="writer", description="Assign a task to the writer."),
    ],
    system_prompt=prompts.SUPERVISOR,
    name="supervisor",
)

app = (
    StateGraph(MessagesState)
    # `destinations` is for the drawing only
    .add_node(supervisor, destinations=("researcher", "writer", END))
    .add_node(researcher)
    .add_node(writer)
    .add_edge(START, "supervisor")
    # always return to the supervisor
    .add_edge("researcher", "supervisor")
    .add_edge("writer", "supervisor")
    .compile(name="team")
)
