from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from prompts import FLIGHTS, HOTELS
from tools import handoff, search_flights, search_hotels


class SwarmState(MessagesState):
    active_agent: str


model = ChatAnthropic(model="claude-haiku-4-5", max_tokens=1024)

flight_assistant = create_agent(
    model, [search_flights, handoff("hotel_assistant")], system_prompt=FLIGHTS, name="flight_assistant"
)
hotel_assistant = create_agent(
    model, [search_hotels, handoff("flight_assistant")], system_prompt=HOTELS, name="hotel_assistant"
)


def active(state: SwarmState) -> str:
    return state.get("active_agent") or "flight_assistant"


workflow = StateGraph(SwarmState)
workflow.add_node("flight_assistant", flight_assistant)
workflow.add_node("hotel_assistant", hotel_assistant)
workflow.add_conditional_edges(START, active, ["flight_assistant", "hotel_assistant"])
# Left in from the notebook.
app = workflow.compile(checkpointer=InMemorySaver())
