"""Somebody else's module as the README shows it: a graph, a workflow that asks it, and the plugin, side by side."""

import operator
from datetime import timedelta
from typing import Annotated, TypedDict
from uuid import UUID, uuid5

from langgraph.graph import END, START, StateGraph
from temporalio import activity, workflow

from durathread import DurathreadPlugin, RunRequest, Settings, start_run

NAMESPACE = UUID("0f3f5d42-1c22-4a57-b3c6-9b4b8a2a8f10")


class State(TypedDict):
    """What was said."""

    said: Annotated[list[str], operator.add]


def greet(state: State) -> State:
    """Answer."""
    return {"said": [f"Hello, {state['said'][-1]}"]}


builder = StateGraph(State)
builder.add_node("greet", greet)
builder.add_edge(START, "greet")
builder.add_edge("greet", END)


@activity.defn
async def ask(thread_id: str, name: str) -> str:
    """Run the graph on a thread, and wait for its end."""
    info = activity.info()
    payload = {"input": {"said": [name]}, "if_not_exists": "create"}
    run = RunRequest(
        str(uuid5(NAMESPACE, f"{info.workflow_run_id}/{info.activity_id}")), thread_id, "greeter", payload=payload
    )
    return await (await start_run(activity.client(), run, task_queue=info.task_queue)).wait()


@workflow.defn
class Visit:
    """Has the graph greet somebody; runs in Temporal's sandbox, as workflows do."""

    @workflow.run
    async def run(self, thread_id: str, name: str) -> str:
        """Return the status of the run."""
        return await workflow.execute_activity(ask, args=[thread_id, name], start_to_close_timeout=timedelta(minutes=1))


def plugin(settings: Settings) -> DurathreadPlugin:
    """Serve the graph."""
    return DurathreadPlugin(settings, graphs={"greeter": builder.compile()})
