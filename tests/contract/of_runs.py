"""What `client.runs` promises."""

from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.errors import ConflictError, NotFoundError, UnprocessableEntityError

from tests.contract.calling import Caller

# Each starts from a state, an input or an answer of its own; together they give every field.
LATER: Any = {"after_seconds": 600}
FIELDS: dict[str, Any] = {
    "metadata": {"m": 1},
    "config": {"tags": ["t"], "recursion_limit": 50},
    "context": {"c": 1},
    "multitask_strategy": "enqueue",
    "if_not_exists": "create",
    "on_completion": "keep",
    "langsmith_tracing": {"project_name": "p"},
    "durability": "sync",
    "interrupt_before": ["c"],
    "interrupt_after": ["nobody"],
}
STREAMED: dict[str, Any] = {"stream_mode": ["values", "updates"], "stream_subgraphs": True, "stream_resumable": True}
SOURCE = {"log": ["in"]}


async def created(call: Caller, **kwargs: Any) -> Any:
    """Start a run on a thread of its own."""
    return await call("runs.create", str(uuid4()), "agent", input=SOURCE, if_not_exists="create", **kwargs)


async def asked(call: Caller) -> tuple[str, str]:
    """Let a run stop at a question; return the thread and the id of the question."""
    thread_id = str(uuid4())
    result = await call("runs.wait", thread_id, "hitl", input={"log": []}, if_not_exists="create")
    return thread_id, result["__interrupt__"][0]["id"]


async def check_starting_points(call: Caller, log_of: Any) -> None:
    """A checkpoint, its id, an answer that is nobody's, a legacy durability, a bad webhook: for any way to start a run."""
    thread_id = str(uuid4())
    await call("runs.wait", thread_id, "agent", input=SOURCE, if_not_exists="create")
    history = await call("threads.get_history", thread_id, limit=100)
    after_a = history[2]["checkpoint"]
    for given in ({"checkpoint": after_a}, {"checkpoint_id": after_a["checkpoint_id"]}):
        with pytest.warns(DeprecationWarning, match="checkpoint_during"):
            log = await log_of(thread_id, "agent", **given, checkpoint_during=False)
        assert log == ["in", "a", "b", "c"]
    thread_id, question = await asked(call)
    answer = {"command": {"resume": {question: "yes"}}, "strict_resume": True}
    assert await log_of(thread_id, "hitl", **answer) == ["ask=yes", "after"]
    # The SDK's `wait` raises what httpx does; its own errors are of that kind too.
    with pytest.raises(httpx.HTTPStatusError, match=r"422|webhook"):
        await log_of(thread_id, "hitl", input=None, webhook="gopher://nowhere")


async def create(call: Caller) -> None:
    """Every field is kept, and the run goes its way."""
    announced: list[Any] = []
    thread_id = str(uuid4())
    run = await call(
        "runs.create", thread_id, "agent", input=SOURCE, **FIELDS, **STREAMED, on_run_created=announced.append
    )
    assert (run["status"], run["multitask_strategy"]) == ("pending", "enqueue")
    assert run["metadata"]["m"] == 1
    kwargs = run["kwargs"]
    assert (kwargs["stream_mode"], kwargs["subgraphs"], kwargs["resumable"]) == (["values", "updates"], True, True)
    assert (kwargs["interrupt_before"], kwargs["durability"], kwargs["context"]) == (["c"], "sync", {"c": 1})
    assert [each["run_id"] for each in announced] == [run["run_id"]]
    assert (await call("runs.join", thread_id, run["run_id"]))["log"] == ["in", "a", "b"]

    async def log_of(thread_id: str, assistant: str, **kwargs: Any) -> list[str]:
        run = await call("runs.create", thread_id, assistant, **kwargs)
        return (await call("runs.join", thread_id, run["run_id"]))["log"]

    await check_starting_points(call, log_of)
    later = await created(call, after_seconds=600)
    with pytest.raises(ConflictError):
        await call("runs.create", later["thread_id"], "agent", multitask_strategy="reject")


async def wait(call: Caller) -> None:
    """The output of a run, or its error."""
    announced: list[Any] = []
    result = await call(
        "runs.wait",
        str(uuid4()),
        "agent",
        input=SOURCE,
        **FIELDS,
        on_disconnect="cancel",
        on_run_created=announced.append,
    )
    assert (result["log"], len(announced)) == (["in", "a", "b"], 1)
    stateless = await call("runs.wait", None, "agent", input=SOURCE, after_seconds=0.1)
    assert stateless["log"] == ["in", "a", "b", "c"]
    failure = await call("runs.wait", None, "failing", input={"log": ["secret"]}, raise_error=False)
    assert failure["__error__"]["error"] == "Secret"

    async def log_of(thread_id: str, assistant: str, **kwargs: Any) -> list[str]:
        return (await call("runs.wait", thread_id, assistant, **kwargs))["log"]

    await check_starting_points(call, log_of)


async def stream(call: Caller) -> None:
    """The events of a run as they happen, in both forms of the SDK."""
    announced: list[Any] = []
    options: Any = {**FIELDS, **STREAMED, "on_disconnect": "cancel", "feedback_keys": ["thumb"]}
    parts = await call("runs.stream", str(uuid4()), "agent", input=SOURCE, **options, on_run_created=announced.append)
    run_id = announced[0]["run_id"]
    changes = ["values", "updates"] * 3
    assert [part.event for part in parts] == ["metadata", *changes, "end"]
    assert parts[-2].data == {"__interrupt__": []}
    assert (parts[0].data["run_id"], parts[-1].data) == (run_id, {"run_id": run_id, "status": "success"})
    assert all(part.id for part in parts)
    typed = await call(
        "runs.stream", None, "agent", input=SOURCE, stream_mode="values", after_seconds=0.1, version="v2"
    )
    assert typed[-1]["data"]["log"] == ["in", "a", "b", "c"]

    async def log_of(thread_id: str, assistant: str, **kwargs: Any) -> list[str]:
        parts = await call("runs.stream", thread_id, assistant, **kwargs)
        return [part.data for part in parts if part.event == "values"][-1]["log"]

    await check_starting_points(call, log_of)


async def create_batch(call: Caller) -> None:
    """Stateless runs, all or none."""
    runs = await call("runs.create_batch", [{"assistant_id": "agent", "input": SOURCE} for _ in range(2)])
    assert [run["status"] for run in runs] == ["pending", "pending"]
    with pytest.raises(UnprocessableEntityError):
        await call("runs.create_batch", [{"assistant_id": "agent"}, {"assistant_id": "nobody"}])
    results = [await call("runs.join", run["thread_id"], run["run_id"]) for run in runs]
    assert [result["log"] for result in results] == [["in", "a", "b", "c"]] * 2


async def listed(call: Caller) -> None:
    """Newest first, by status, in part and by pages."""
    first = await created(call, **LATER)
    thread_id = first["thread_id"]
    second = await call("runs.create", thread_id, "agent", after_seconds=700)
    found = await call("runs.list", thread_id, limit=10, status="pending", select=["run_id"])
    assert found == [{"run_id": second["run_id"]}, {"run_id": first["run_id"]}]
    assert [run["run_id"] for run in await call("runs.list", thread_id, limit=1, offset=1)] == [first["run_id"]]


async def get(call: Caller) -> None:
    """A run as it is."""
    run = await created(call, **LATER)
    assert await call("runs.get", run["thread_id"], run["run_id"]) == run


async def cancel(call: Caller) -> None:
    """A run is kept as interrupted, or is gone."""
    kept, gone = await created(call, **LATER), await created(call, **LATER)
    await call("runs.cancel", kept["thread_id"], kept["run_id"], wait=True)
    assert (await call("runs.get", kept["thread_id"], kept["run_id"]))["status"] == "interrupted"
    await call("runs.cancel", gone["thread_id"], gone["run_id"], action="rollback")
    with pytest.raises(NotFoundError):
        await call("runs.get", gone["thread_id"], gone["run_id"])


async def cancel_many(call: Caller) -> None:
    """By ids; by status of all threads it is refused when it matches nothing."""
    run = await created(call, **LATER)
    await call("runs.cancel_many", thread_id=run["thread_id"], run_ids=[run["run_id"]], action="interrupt")
    assert (await call("runs.get", run["thread_id"], run["run_id"]))["status"] == "interrupted"
    with pytest.raises(UnprocessableEntityError):
        await call("runs.cancel_many", thread_id=run["thread_id"], run_ids=[run["run_id"]], status="all")


async def join(call: Caller) -> None:
    """The output of a run, also long after."""
    run = await created(call)
    results = [await call("runs.join", run["thread_id"], run["run_id"]) for _ in range(2)]
    assert [result["log"] for result in results] == [["in", "a", "b", "c"]] * 2


async def join_stream(call: Caller) -> None:
    """The events of a run from any of them on."""
    run = await created(call, stream_resumable=True, stream_mode=["values", "updates"])
    here = (run["thread_id"], run["run_id"])
    await call("runs.join", *here)
    whole = await call("runs.join_stream", *here, last_event_id="-1", cancel_on_disconnect=True)
    rest = await call("runs.join_stream", *here, last_event_id=whole[3].id, stream_mode=["values"])
    assert rest == [part for part in whole[4:] if part.event in ("values", "end")]
    assert len(rest) == 3


async def delete(call: Caller) -> None:
    """A run that has ended goes, with its checkpoints."""
    run = await created(call)
    await call("runs.join", run["thread_id"], run["run_id"])
    await call("runs.delete", run["thread_id"], run["run_id"])
    with pytest.raises(NotFoundError):
        await call("runs.get", run["thread_id"], run["run_id"])
    assert await call("threads.get_history", run["thread_id"]) == []
