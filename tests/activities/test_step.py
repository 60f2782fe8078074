"""Steps through a whole server: stepped runs and those of one step look the same to clients."""

import re
from typing import Any

import orjson
import pytest
from langgraph_sdk.client import LangGraphClient

IDS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}")

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "to be or not", "id": "1"}]}
WORK: dict[str, Any] = {"log": ["in"], "do": {"slow": {"sleep": 0.1}}}


async def seen(client: LangGraphClient, graph: str, given: dict[str, Any], **options: Any) -> tuple[list[Any], Any]:
    """Stream a run on a thread of its own; return its events and the thread's state, without ids."""
    thread = await client.threads.create()
    stream = client.runs.stream(
        thread["thread_id"], graph, input=given, stream_mode=["values", "updates", "messages-tuple"], **options
    )
    events = [(part.event, part.data) async for part in stream]
    state = await client.threads.get_state(thread["thread_id"])
    shown = await client.threads.get(thread["thread_id"])
    return [plain(event) for event in events if event[0] not in ("metadata", "messages")], plain(
        (state["values"], state["next"], shown["status"], shown["values"], [e for e in events if e[0] == "error"])
    )


def plain(value: Any) -> Any:
    """Leave out ids: those differ from run to run."""
    return orjson.loads(IDS.sub("id", orjson.dumps(value).decode()))


@pytest.mark.parametrize(
    ("graph", "given", "options"),
    [
        pytest.param("agent", WORK, {}, id="chain"),
        pytest.param("parallel", WORK, {}, id="parallel"),
        pytest.param("nested_chat", CHAT, {"stream_subgraphs": True}, id="subgraph"),
        pytest.param("hitl", WORK, {}, id="interrupt"),
        pytest.param("failing", {"log": ["secret"]}, {}, id="failure"),
        pytest.param("five", WORK, {"config": {"recursion_limit": 3}}, id="recursion limit"),
        pytest.param("five", WORK, {"interrupt_before": ["s3"]}, id="breakpoint"),
    ],
)
async def test_a_stepped_run_looks_like_one_of_a_single_step(
    client: LangGraphClient, graph: str, given: dict[str, Any], options: dict[str, Any]
) -> None:
    stepped, stepped_end = await seen(client, graph, given, **options)
    whole, whole_end = await seen(client, graph, given, durability="exit", **options)
    assert stepped == whole
    assert stepped_end == whole_end
