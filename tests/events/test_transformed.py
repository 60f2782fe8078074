"""What stream transformers make of what a graph yields, for clients of both protocols."""

import asyncio
from typing import Any, cast

import orjson
import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import PIIMiddleware
from langchain_core.messages import AIMessageChunk
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.stream import ProtocolEvent, StreamTransformer

from durathread.db.pool import Pool
from durathread.events.model_calls import ModelCalls
from durathread.events.redaction import redacted
from durathread.events.transformed import Transformed
from durathread.events.transformers import Pipeline
from durathread.graphs.registry import Graph
from tests.served import transforming
from tests.served.chat import Parrot
from tests.steps.stepping import Outcome, Thread

LONG = " ".join(["word"] * 60)
MARK = "[REDACTED_EMAIL]"


def asked(words: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": words, "id": "asked"}]}


def data_of(thread: Thread, method: str) -> list[Any]:
    return [frame["params"]["data"] for frame in thread.frames if frame["method"] == method]


def written(thread: Thread) -> str:
    """Put together what the chunks of a stream say."""
    return "".join(data[0]["content"] for name, data in thread.shown if name == "messages")


async def run(pool: Pool, graph: Any, words: str, *modes: str) -> tuple[Thread, Outcome]:
    thread = Thread(pool)
    return thread, await thread.stepped(cast(Graph, graph), asked(words), stream_mode=list(modes), watched=True)


@pytest.mark.parametrize("words", ["ask ann@example.org now", f"{LONG} ask ann@example.org {LONG} now"])
async def test_an_address_that_is_kept_private_is_seen_by_no_client(pool: Pool, words: str) -> None:
    thread, outcome = await run(pool, transforming.private, words, "values", "messages-tuple")
    assert outcome.status == "success"
    said = f"{words.replace('ann@example.org', MARK)} "
    assert written(thread) == said
    [message] = [data["content"] for data in data_of(thread, "messages") if data["event"] == "content-block-finish"]
    assert message["text"] == said
    deltas = [data["delta"]["text"] for data in data_of(thread, "messages") if data["event"] == "content-block-delta"]
    assert "".join(deltas) == said
    shown = [data for name, data in thread.shown if name == "values"] + data_of(thread, "values")
    assert b"ann@example.org" not in orjson.dumps(shown)
    assert shown[-1]["messages"][-1]["content"] == said


@pytest.mark.parametrize("mode", ["updates", "tasks", "debug", "events", "checkpoints", "messages", "tools", "custom"])
async def test_what_is_kept_private_is_kept_private_in_every_mode(pool: Pool, mode: str) -> None:
    """Alone, and beside all others."""
    for graph in (transforming.private, nested(transforming.private)):
        for modes in ([mode], ["values", "updates", "tasks", "debug", "events", "checkpoints", "messages"]):
            thread = Thread(pool)
            words = f"{LONG} ask ann@example.org now"
            outcome = await thread.stepped(
                cast(Graph, graph), asked(words), stream_mode=modes, subgraphs=True, watched=True
            )
            assert outcome.status == "success"
            said = orjson.dumps([thread.shown, thread.frames], default=str)
            assert b"ann@" not in said
            if mode in ("updates", "tasks", "debug", "events", "checkpoints"):
                assert MARK.encode() in said


def nested(graph: Any) -> Any:
    """Put an agent into a graph of one node."""
    builder = StateGraph(MessagesState)
    builder.add_node("agent", graph)
    builder.add_edge(START, "agent")
    return builder.compile(transformers=graph.stream_transformers)


async def test_each_message_is_finished_once_with_its_usage(pool: Pool) -> None:
    thread, _ = await run(pool, transforming.private, "ask ann@example.org", "messages-tuple")
    events = [data["event"] for data in data_of(thread, "messages")]
    assert (events[0], events[-1], events.count("message-start"), events.count("message-finish")) == (
        "message-start",
        "message-finish",
        1,
        1,
    )


async def test_what_is_pushed_to_a_named_channel_is_shown_by_its_name(pool: Pool) -> None:
    thread, outcome = await run(pool, transforming.counting, "one two", "values", "custom")
    assert outcome.status == "success"
    named = [(data["name"], data["payload"]) for data in data_of(thread, "custom")]
    # The input, and a state after each of two nodes, in three steps; the end is said once.
    progress = [payload for name, payload in named if name == "progress"]
    assert progress == [{"states": 1}, {"states": 2}, {"states": 3}, {"all": 3}]
    assert [payload for name, payload in named if name == "words"] == ["one", "two"]
    # Clients of runs have no channels.
    assert [name for name, _ in thread.shown if name == "custom"] == []


async def test_what_a_transformer_takes_out_of_the_state_no_client_is_shown(pool: Pool) -> None:
    thread, outcome = await run(pool, transforming.counting, "one", "values", "checkpoints")
    assert outcome.values["secret"] == "x"
    shown = [data for name, data in thread.shown if name == "values"] + data_of(thread, "values")
    assert shown
    assert not [values for values in shown if "secret" in values]


async def test_an_address_that_is_forbidden_ends_the_run(pool: Pool) -> None:
    middleware = PIIMiddleware("email", strategy="block", apply_to_input=False, apply_to_output=True)
    thread, outcome = await run(pool, create_agent(Parrot(), middleware=[middleware]), "ask ann@example.org", "values")
    assert (outcome.status, outcome.error and outcome.error["error"]) == ("error", "PIIDetectionError")
    assert b"ann@example.org " not in orjson.dumps(data_of(thread, "messages"))


async def test_arguments_of_tools_are_redacted_too() -> None:
    middleware = PIIMiddleware("email", apply_to_output=True)
    transformed = Transformed(Pipeline(cast(Any, middleware.transformers)), ModelCalls())
    parts = ['{"to": "ann@', 'example.org", "n": 1}', ""]
    found: list[AIMessageChunk] = []
    for number, part in enumerate(parts):
        call: Any = {
            "name": "send" if not number else None,
            "args": part,
            "id": "1" if not number else None,
            "index": 0,
        }
        chunk = AIMessageChunk(
            content="", id="m", tool_call_chunks=[call] if part else [], chunk_position=None if part else "last"
        )
        shown = await transformed.through(((), "messages", (chunk, {})), repeats=False)
        found += [data[0] for _, _, data in shown]
    whole = found[0] + found[1] + found[2]
    assert whole.tool_calls[0]["args"] == {"to": MARK, "n": 1}
    assert "ann@" not in "".join(str(each) for each in found)


class Scheduling(StreamTransformer):
    """Does something beside the stream for each state that it sees."""

    required_stream_modes = ("values",)

    def __init__(self, scope: tuple[str, ...] = ()) -> None:
        super().__init__(scope)
        self.done: list[str] = []
        self.turns = 5

    def init(self) -> dict[str, Any]:
        return {}

    async def aprocess(self, event: ProtocolEvent) -> bool:
        self.schedule(self._work())
        return True

    async def _work(self) -> None:
        try:
            for _ in range(self.turns):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.done.append("cancelled")
            raise
        self.done.append("done")


@pytest.mark.parametrize("leave", ["settle", "end", "fail"])
async def test_what_transformers_do_aside_is_over_when_a_step_or_a_run_is(leave: str) -> None:
    built = list[Scheduling]()

    def build(scope: tuple[str, ...]) -> Scheduling:
        built.append(Scheduling(scope))
        # What is aside takes longer.
        built[-1].turns **= len(built)
        return built[-1]

    pipeline = Pipeline([build])
    await pipeline.push("values", (), {})
    await redacted(pipeline, "updates", {"node": {"a": 1}})
    assert len(built) == 2
    # Both have begun.
    await asyncio.sleep(0)
    await (pipeline.fail(ValueError()) if leave == "fail" else getattr(pipeline, leave)())
    assert [each.done for each in built] == [["cancelled" if leave == "fail" else "done"]] * 2
