"""A graph whose transformer counts its states as it goes, and says so on a channel of its own."""

from typing import Any

from langgraph.graph import START, StateGraph
from langgraph.stream import ProtocolEvent, StreamChannel, StreamTransformer
from typing_extensions import TypedDict


class Counting(StreamTransformer):
    """Counts states."""

    required_stream_modes = ("values",)

    def __init__(self, scope: tuple[str, ...] = ()) -> None:
        """Begin with none."""
        super().__init__(scope)
        self._progress: StreamChannel[dict[str, Any]] = StreamChannel("progress")
        self._states = 0

    def init(self) -> dict[str, Any]:
        """Say what there is to read."""
        return {"progress": self._progress}

    def process(self, event: ProtocolEvent) -> bool:
        """Count a state."""
        if event["method"] == "values":
            self._states += 1
            self._progress.push({"states": self._states})
        return True

    def finalize(self) -> None:
        """Say how many there were."""
        self._progress.push({"all": self._states})


class State(TypedDict, total=False):
    """A word."""

    word: str


builder: Any = StateGraph(State)
for name in ("first", "second"):
    builder.add_node(name, lambda state: {"word": state["word"] + "!"})
builder.add_edge(START, "first")
builder.add_edge("first", "second")
graph = builder.compile(transformers=[Counting])
