"""Graphs that transform their streams: an agent that keeps addresses to itself, and one that counts its words as it goes."""

from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import PIIMiddleware
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.stream import ProtocolEvent, StreamChannel, StreamTransformer

from tests.served.chat import Parrot

# Repeats its question, which may have an address: only the output is to be redacted.
private = create_agent(
    Parrot(),
    middleware=[PIIMiddleware("email", apply_to_input=False, apply_to_output=True)],
)


class Counting(StreamTransformer):
    """Counts the steps and the words, and says so on channels of its own; hides what is secret from the state."""

    required_stream_modes = ("messages", "values", "custom")

    def __init__(self, scope: tuple[str, ...] = ()) -> None:
        """Begin with none."""
        super().__init__(scope)
        self._progress: StreamChannel[dict[str, Any]] = StreamChannel("progress")
        self._words: StreamChannel[str] = StreamChannel("words")
        self._states = 0

    def init(self) -> dict[str, Any]:
        """Say what there is to read."""
        return {"progress": self._progress, "words": self._words}

    async def aprocess(self, event: ProtocolEvent) -> bool:
        """Count a state, pass on a word, and take out what nobody is to see."""
        data = event["params"]["data"]
        if event["method"] == "values":
            self._states += 1
            self._progress.push({"states": self._states})
            event["params"]["data"] = {key: value for key, value in data.items() if key != "secret"}
        elif event["method"] == "messages" and data[0]["event"] == "content-block-delta":
            self._words.push(data[0]["delta"]["text"].strip())
        return not (event["method"] == "custom" and data == "hidden")

    async def afinalize(self) -> None:
        """Say how many there were."""
        self._progress.push({"all": self._states})


class State(MessagesState):
    """What is said, and what is not shown."""

    secret: str


async def first(state: State) -> dict[str, Any]:
    """Note a secret."""
    return {"secret": "x"}


async def second(state: State) -> dict[str, Any]:
    """Answer."""
    return {"messages": [await Parrot().ainvoke(state["messages"])]}


def _build() -> Any:
    builder = StateGraph(State)
    builder.add_node("first", first)
    builder.add_node("second", second)
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    return builder.compile(transformers=[Counting])


counting = _build()
