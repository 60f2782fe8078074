"""What `client.threads` promises."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from langgraph_sdk.errors import ConflictError, NotFoundError

from tests.contract.calling import Caller


async def worked(call: Caller, **kwargs: Any) -> str:
    """Create a thread on which a run has ended."""
    thread = await call("threads.create", **kwargs)
    await call("runs.wait", thread["thread_id"], "agent", input={"log": ["in"]})
    return thread["thread_id"]


async def create(call: Caller) -> None:
    """Every field is kept, a history can be given; an id is taken once."""
    own = str(uuid4())
    steps: Any = [{"updates": [{"values": {"log": ["given"]}, "as_node": "__start__"}]}]
    first = await call("threads.create", thread_id=own, metadata={"m": 1}, graph_id="agent", supersteps=steps, ttl=60)
    assert (first["thread_id"], first["metadata"]) == (own, {"m": 1, "graph_id": "agent"})
    assert (first["values"], first["status"]) == ({"log": ["given"]}, "interrupted")
    assert (await call("threads.get_state", own))["next"] == ["a"]
    with pytest.raises(ConflictError):
        await call("threads.create", thread_id=own)
    assert await call("threads.create", thread_id=own, if_exists="do_nothing") == first


async def get(call: Caller) -> None:
    """A thread, with its expiry if asked."""
    thread = await call("threads.create", ttl={"ttl": 60, "strategy": "delete"})
    shown = await call("threads.get", thread["thread_id"], include=["ttl"])
    assert (shown["ttl"]["strategy"], shown["ttl"]["ttl_minutes"]) == ("delete", 60)
    with pytest.raises(NotFoundError):
        await call("threads.get", str(uuid4()))


async def update(call: Caller) -> None:
    """Metadata are merged; the answer may be left out."""
    thread = await call("threads.create", metadata={"a": 1})
    changed = await call("threads.update", thread["thread_id"], metadata={"b": 2}, ttl=30)
    assert changed["metadata"] == {"a": 1, "b": 2}
    assert await call("threads.update", thread["thread_id"], metadata={"c": 3}, return_minimal=True) is None
    assert (await call("threads.get", thread["thread_id"]))["metadata"] == {"a": 1, "b": 2, "c": 3}


async def delete(call: Caller) -> None:
    """A thread goes, with its runs."""
    thread_id = await worked(call)
    [run] = await call("runs.list", thread_id)
    await call("threads.delete", thread_id)
    for gone in (call("threads.get", thread_id), call("runs.get", thread_id, run["run_id"])):
        with pytest.raises(NotFoundError):
            await gone


async def search(call: Caller) -> None:
    """Filters, order, pages, selections and extracts."""
    mark = {"mark": str(uuid4())}
    ids = [await worked(call, metadata=mark) for _ in range(2)]
    asked: dict[str, Any] = {"metadata": mark, "values": {"log": ["in", "a", "b", "c"]}, "status": "idle", "ids": ids}
    found = await call(
        "threads.search",
        **asked,
        sort_by="created_at",
        sort_order="asc",
        select=["thread_id"],
        extract={"last": "values.log[-1]"},
    )
    assert found == [{"thread_id": thread_id, "extracted": {"last": "c"}} for thread_id in ids]
    assert [each["thread_id"] for each in await call("threads.search", metadata=mark, limit=1, offset=1)] == [ids[0]]


async def count(call: Caller) -> None:
    """The number of what a search finds."""
    mark = {"mark": str(uuid4())}
    await worked(call, metadata=mark)
    await call("threads.create", metadata=mark)
    assert await call("threads.count", metadata=mark) == 2
    assert await call("threads.count", metadata=mark, values={"log": ["in", "a", "b", "c"]}, status="idle") == 1


async def copy(call: Caller) -> None:
    """A copy goes its own way."""
    thread_id = await worked(call)
    copied = await call("threads.copy", thread_id)
    await call("runs.wait", copied["thread_id"], "agent", input={"log": ["more"]})
    logs = [(await call("threads.get_state", each))["values"]["log"] for each in (thread_id, copied["thread_id"])]
    assert logs == [["in", "a", "b", "c"], ["in", "a", "b", "c", "more", "a", "b", "c"]]


async def prune(call: Caller) -> None:
    """Threads go, or their histories; who is unknown is skipped."""
    kept, gone = await worked(call), await worked(call)
    pruned = await call("threads.prune", [kept, str(uuid4())], strategy="keep_latest")
    assert pruned == {"pruned_count": 1}
    assert len(await call("threads.get_history", kept)) == 1
    assert (await call("threads.prune", [gone]))["pruned_count"] == 1
    with pytest.raises(NotFoundError):
        await call("threads.get", gone)


async def get_state(call: Caller) -> None:
    """The latest state or an earlier one, in part, with subgraphs."""
    thread_id = await worked(call)
    latest = await call("threads.get_state", thread_id, subgraphs=True)
    assert (latest["values"]["log"], latest["next"]) == (["in", "a", "b", "c"], [])
    before = latest["parent_checkpoint"]
    asked: Any = {"select": ["values", "next"]}
    for given in ({"checkpoint": before}, {"checkpoint_id": before["checkpoint_id"]}):
        found = await call("threads.get_state", thread_id, **given, **asked)
        assert found == {"values": {"log": ["in", "a", "b"]}, "next": ["c"]}


async def update_state(call: Caller) -> None:
    """A checkpoint is written as a node's, or forked from an earlier one."""
    thread_id = await worked(call)
    written = await call("threads.update_state", thread_id, {"log": ["by hand"]}, as_node="b")
    state = await call("threads.get_state", thread_id)
    assert (state["values"]["log"][-1], state["next"]) == ("by hand", ["c"])
    assert state["checkpoint"]["checkpoint_id"] == written["checkpoint"]["checkpoint_id"]
    first = (await call("threads.get_history", thread_id, limit=100))[-2]["checkpoint"]
    for given in ({"checkpoint": first}, {"checkpoint_id": first["checkpoint_id"]}):
        await call("threads.update_state", thread_id, {"log": ["fork"]}, as_node="a", **given)
        state = await call("threads.get_state", thread_id)
        assert state["values"]["log"] == ["in", "fork"]
        assert state["parent_checkpoint"]["checkpoint_id"] == first["checkpoint_id"]


async def get_history(call: Caller) -> None:
    """States, newest first, from one on, by metadata, in part."""
    thread_id = await worked(call)
    whole = await call("threads.get_history", thread_id, limit=100)
    assert [state["metadata"]["step"] for state in whole] == [3, 2, 1, 0, -1]
    asked: dict[str, Any] = {"before": whole[1]["checkpoint"], "metadata": {"source": "loop"}, "select": ["next"]}
    assert await call("threads.get_history", thread_id, limit=2, **asked) == [{"next": ["b"]}, {"next": ["a"]}]
    here = {"checkpoint_ns": "", "checkpoint_id": whole[2]["checkpoint"]["checkpoint_id"]}
    assert await call("threads.get_history", thread_id, checkpoint=here) == [whole[2]]


async def join_stream(call: Caller) -> None:
    """The events of a thread's runs, from the beginning on."""
    thread = await call("threads.create")
    await call("runs.create", thread["thread_id"], "agent", input={"log": ["in"]}, stream_resumable=True)
    parts = await call(
        "threads.join_stream", thread["thread_id"], last_event_id="-", stream_mode=["run_modes"], first=6
    )
    assert parts[1].data == {"log": ["in"]}
    assert parts[4].data == {"log": ["in", "a", "b", "c"]}
    assert parts[-1].data["status"] == "run_done"


async def stream(call: Caller) -> None:
    """A thread is worked with by the streaming protocol, over both transports."""
    for transport in ("sse", "websocket"):
        opened = await call(
            "threads.stream", str(uuid4()), assistant_id="agent", run_start_timeout=30, transport=transport
        )
        assert (await output_of(opened))["log"] == ["in", "a", "b", "c"]


async def output_of(opened: Any) -> Any:
    """Start a run on an opened thread, and wait for its output."""
    if hasattr(opened, "__aenter__"):
        async with opened as thread:
            await thread.run.start(input={"log": ["in"]})
            return await thread.output

    def work() -> Any:
        with opened as thread:
            thread.run.start(input={"log": ["in"]})
            return thread.output

    return await asyncio.to_thread(work)
