"""Tells a page how far the agent is."""

from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langgraph.stream import ProtocolEvent, StreamChannel, StreamTransformer


class Progress(StreamTransformer):
    required_stream_modes = ("values",)

    def __init__(self, scope: tuple[str, ...] = ()) -> None:
        super().__init__(scope)
        self._progress: StreamChannel[dict[str, Any]] = StreamChannel("progress")

    def init(self) -> dict[str, Any]:
        return {"progress": self._progress}

    def process(self, event: ProtocolEvent) -> bool:
        if event["method"] == "values" and not event["params"]["namespace"]:
            todos = event["params"]["data"].get("todos") or []
            self._progress.push({"done": sum(todo["status"] == "completed" for todo in todos), "of": len(todos)})
        return True


class ProgressMiddleware(AgentMiddleware):
    transformers = (Progress,)
